#!/usr/bin/env bash
# Miri: the runtime's unit tests, and every test that runs on the simulated kernel, the runtime's
# own and those of the facade. It finds aliasing, provenance and lifetime errors that no real kernel
# shows.
#
#   ci/miri.sh [FILTER…]     arguments go to the test programs
#
# Miri has no io_uring: what needs the real one, other processes or signals is `#[cfg(not(miri))]`
# in the tests, so all that is compiled runs, and no filter hides a test that should. A file that
# has nothing else says so of itself as a whole, and is passed over.
#
# Miri is slow, a few milliseconds for each poll: tests that count have smaller numbers under
# `cfg!(miri)`. Beside each program's name stands how long it took.
source "$(dirname "$0")/lib.sh"

if ! nightly miri rust-src; then
    loudly miri "no toolchain $NIGHTLY with miri and rust-src"
    exit 0
fi

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/miri"
# The tests read /proc and the environment.
base="${MIRIFLAGS:-} -Zmiri-disable-isolation"
# Miri shows where it is by itself; a backtrace for each panic that a test expects takes seconds.
export RUST_BACKTRACE=0
# Imports and helpers of tests that are left out here. Elsewhere clippy looks for them.
export RUSTFLAGS="${RUSTFLAGS:-} -Aunused"

logs="$(mktemp -d)"
trap 'rm -rf "$logs"' EXIT

# The same for each call: other packages would have other features, and be built anew.
miri_test=(cargo "+$NIGHTLY" miri test -p coring-runtime -p coring)

# program NAME: one test program, its output to a file.
program() {
    local name=$1 flags="$base" target=(--test "$1") begin=$SECONDS
    shift
    case "$name" in
    # They leak on purpose (ci/lsan.txt says what `loop_panics` does); so do the unit tests, of what
    # lives as long as the process.
    leaks_* | loop_panics | forgetting) flags+=" -Zmiri-ignore-leaks" ;;
    lib)
        flags+=" -Zmiri-ignore-leaks"
        target=(--lib)
        ;;
    esac
    MIRIFLAGS="$flags" timeout 900 "${miri_test[@]}" "${target[@]}" -- "$@" >"$logs/$name" 2>&1 ||
        echo "$name" >>"$logs/failed"
    echo $((SECONDS - begin)) >"$logs/$name.seconds"
}

names=(lib) targets=(--lib)
for file in runtime/tests/*.rs tests/*.rs; do
    if ! grep -q '^#!\[cfg(not(miri))\]' "$file"; then
        names+=("$(basename "$file" .rs)")
        targets+=(--test "${names[-1]}")
    fi
done

# By name: without its tests `ctrl_c`, which has no harness, has no `main` either.
MIRIFLAGS="$base" "${miri_test[@]}" "${targets[@]}" --no-run
# Each program uses one core.
for name in "${names[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do
        wait -n
    done
    program "$name" "$@" &
done
wait
for name in "${names[@]}"; do
    echo "--- miri: $name, $(<"$logs/$name.seconds") s"
    cat "$logs/$name"
done
[ ! -e "$logs/failed" ] || fail "miri: $(sort "$logs/failed" | tr '\n' ' ')"
