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

# Without unsafe code, and with more steps than Miri does in ten minutes.
slow=(timers::tests::heap_agrees_with_a_sorted_list)
for name in "${slow[@]}"; do
    skip "miri $name: takes minutes, and has no unsafe code"
done

# Files named leaks_* leak on purpose; so do the unit tests, of what lives as long as the process.
leaking=() strict=()
for file in runtime/tests/*.rs; do
    name="$(basename "$file" .rs)"
    case "$name" in
    leaks_*) leaking+=(--test "$name") ;;
    *) strict+=(--test "$name") ;;
    esac
done

status=0
# miri FLAGS ARGUMENT…: goes on after a failure, so that all of them are seen.
miri() {
    local flags="$base $1"
    shift
    echo "--- miri: $*"
    MIRIFLAGS="$flags" timeout 900 cargo "+$NIGHTLY" miri test -p coring-runtime --no-fail-fast "$@" ||
        status=1
}
miri -Zmiri-ignore-leaks --lib "${leaking[@]}" -- "${slow[@]/#/--skip=}" "$@"
miri "" "${strict[@]}" -- "$@"
[ "$status" -eq 0 ] || fail "miri"
