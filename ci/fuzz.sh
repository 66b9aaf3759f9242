#!/usr/bin/env bash
# The fuzz targets: first by a test, on the corpus and on that changed by seeds, which needs nothing;
# then by cargo-fuzz, where it is installed, which looks at what code an input reaches.
#
#   ci/fuzz.sh [SECONDS]     with each target, half by each; 20 if not given
source "$(dirname "$0")/lib.sh"

seconds="${1:-20}"
targets=(codecs resp)

CORING_FUZZ_SECONDS=$(((seconds + 1) / 2)) CORING_FUZZ_SEED=$((EPOCHSECONDS << 20)) \
    cargo test --test fuzz -- --nocapture --skip tests::

if ! cargo fuzz --version >/dev/null 2>&1; then
    skip "cargo-fuzz: it is not installed (cargo install cargo-fuzz)"
    exit 0
fi
if ! nightly; then
    loudly cargo-fuzz "no toolchain $NIGHTLY"
    exit 0
fi
export CARGO_TARGET_DIR="$PWD/${CARGO_TARGET_DIR:-target}/fuzz"
for target in "${targets[@]}"; do
    echo "--- cargo-fuzz: $target"
    # What it finds on its way is not kept; what fails is, in fuzz/artifacts.
    found="$(mktemp -d)"
    cargo "+$NIGHTLY" fuzz run "$target" "$found" "fuzz/corpus/$target" -- \
        -max_total_time=$(((seconds + 1) / 2)) -max_len=4096 -print_final_stats=1 2>&1 |
        tail -n 20
    rm -r "$found"
done
