#!/usr/bin/env bash
# Miri: the runtime's unit tests, and every test that runs on the simulated kernel. It finds
# aliasing, provenance and lifetime errors that no real kernel shows.
#
#   ci/miri.sh [FILTER…]     arguments go to the test programs
#
# Miri has no io_uring: what needs the real one is `#[cfg(not(miri))]` in the tests, so all that is
# compiled runs, and no filter hides a test that should.
source "$(dirname "$0")/lib.sh"

if ! nightly miri rust-src; then
    loudly miri "no toolchain $NIGHTLY with miri and rust-src"
    exit 0
fi

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/miri"
# The tests read /proc and the environment.
base="${MIRIFLAGS:-} -Zmiri-disable-isolation"

logs="$(mktemp -d)"
trap 'rm -rf "$logs"' EXIT

# program NAME: one test program, its output to a file.
program() {
    local name=$1 flags="$base" target=(--test "$1")
    shift
    case "$name" in
    # They leak on purpose (ci/lsan.txt says what the second one does); so do the unit tests, of
    # what lives as long as the process.
    leaks_* | loop_panics) flags+=" -Zmiri-ignore-leaks" ;;
    lib)
        flags+=" -Zmiri-ignore-leaks"
        target=(--lib)
        ;;
    esac
    MIRIFLAGS="$flags" timeout 900 cargo "+$NIGHTLY" miri test -p coring-runtime "${target[@]}" -- \
        "$@" >"$logs/$name" 2>&1 || echo "$name" >>"$logs/failed"
}

MIRIFLAGS="$base" cargo "+$NIGHTLY" miri test -p coring-runtime --lib --tests --no-run
# Each program uses one core.
names=(lib)
for file in runtime/tests/*.rs; do
    names+=("$(basename "$file" .rs)")
done
for name in "${names[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do
        wait -n
    done
    program "$name" "$@" &
done
wait
for name in "${names[@]}"; do
    echo "--- miri: $name"
    cat "$logs/$name"
done
[ ! -e "$logs/failed" ] || fail "miri: $(sort "$logs/failed" | tr '\n' ' ')"
