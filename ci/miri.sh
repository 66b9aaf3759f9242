#!/usr/bin/env bash
# Miri: the runtime's unit tests, and every test that runs on the simulated kernel. It finds
# aliasing, provenance and lifetime errors that no real kernel shows.
#
#   ci/miri.sh [FILTER…]     arguments go to the test programs, after `sim::`
source "$(dirname "$0")/lib.sh"

if ! nightly miri rust-src; then
    loudly miri "no toolchain $NIGHTLY with miri and rust-src"
    exit 0
fi

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/miri"
# Isolation off: the tests read /proc and the environment. Miri has no io_uring: `uring::` tests
# are not compiled in, and what is left of a program that runs on sim makes no system call.
export MIRIFLAGS="${MIRIFLAGS:--Zmiri-disable-isolation}"

echo "--- miri: unit tests of coring-runtime"
cargo "+$NIGHTLY" miri test -p coring-runtime --lib -- "$@"
echo "--- miri: tests on the simulated kernel"
cargo "+$NIGHTLY" miri test -p coring-runtime --tests -- sim:: "$@"
