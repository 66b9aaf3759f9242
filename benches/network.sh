#!/usr/bin/env bash
# Takes the record of the network: every table of RESULTS.md about sockets but that of `many`, with the
# raw samples where a program writes them. It takes about an hour; leave the machine alone meanwhile.
#
#   benches/network.sh FOLDER [PROGRAM…]     all of them, or these: echo large accept bulk udp kv
set -euo pipefail
folder="$(realpath -m "${1:?usage: benches/network.sh FOLDER [PROGRAM…]}")"
shift
[ $# -gt 0 ] || set -- echo large accept bulk udp kv
cd "$(dirname "$0")/.."
mkdir -p "$folder"

(cd benches/rivals && cargo build --release)
cargo build --profile bench -p coring-benches
cargo build --profile bench --example kv

# record NAME PROGRAM [ARGUMENT…]: what it prints goes to FOLDER/NAME.txt.
record() {
    local name=$1 program=$2
    shift 2
    {
        printf '# %s %s\n' "$program" "$*"
        "${CARGO_TARGET_DIR:-target}/release/$program" "$@"
    } | tee "$folder/$name.txt"
}

for what in "$@"; do
    samples=(--csv "$folder/$what.csv")
    case $what in
        echo) record echo echo --rivals --bytes 64,1024,16384 "${samples[@]}" ;;
        # As much room for each server as coring has by itself.
        large) record large echo --rivals --bytes 262144 --buffer 65536 "${samples[@]}" ;;
        accept) record accept accept --rivals "${samples[@]}" ;;
        bulk) record bulk bulk "${samples[@]}" ;;
        udp) record udp udp ;;
        kv) record kv kv "${samples[@]}" ;;
        *)
            echo "there is no record of $what" >&2
            exit 2
            ;;
    esac
done
