#!/usr/bin/env bash
# AddressSanitizer over the whole suite, on the real kernel and the simulated one. What the kernel
# itself writes is not instrumented: a write to freed memory shows when the program next looks.
#
#   ci/asan.sh [FILTER…]     arguments go to the test programs
source "$(dirname "$0")/lib.sh"

if ! nightly; then
    loudly asan "no toolchain $NIGHTLY"
    exit 0
fi

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/asan"
# With --target, so that build scripts and macros are not instrumented.
target="$(uname -m)-unknown-linux-gnu"
export RUSTFLAGS="-Zsanitizer=address"
# Leaks are not looked for: tests leak on purpose (`mem::forget` of each future), and the pool of
# inboxes lives for ever. The tests count slots, descriptors and leaked payloads themselves.
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0}"
cargo "+$NIGHTLY" test --workspace --exclude coring-benches --tests --target "$target" -- "$@"
