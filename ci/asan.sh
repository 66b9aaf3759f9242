#!/usr/bin/env bash
# AddressSanitizer over the whole suite, on the real kernel and the simulated one; it looks for
# leaks as well. What the kernel itself writes is not instrumented: a write to freed memory shows
# when the program next looks.
#
#   ci/asan.sh [FILTER…]     arguments go to the test programs

# Cargo runs each test program by way of this script: these leak on purpose.
if [ "${1:-}" = --run ]; then
    shift
    case "$(basename "$1")" in
    leaks_* | forgetting-*) export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" ;;
    esac
    exec "$@"
fi
source "$(dirname "$0")/lib.sh"

if ! nightly; then
    loudly asan "no toolchain $NIGHTLY"
    exit 0
fi

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/asan"
# With --target, so that build scripts and macros are not instrumented.
target="$(uname -m)-unknown-linux-gnu"
variable="${target^^}"
export RUSTFLAGS="-Zsanitizer=address"
export LSAN_OPTIONS="suppressions=$PWD/ci/lsan.txt:print_suppressions=0:${LSAN_OPTIONS:-}"
export "CARGO_TARGET_${variable//-/_}_RUNNER=$PWD/ci/asan.sh --run"
cargo "+$NIGHTLY" test --workspace --exclude coring-benches --tests --no-fail-fast \
    --target "$target" -- "$@"
