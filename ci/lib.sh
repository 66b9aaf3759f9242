# Sourced by the scripts beside it: where they run, how they skip, what they install.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What this machine cannot do is said, never passed over: `.ci/run` counts these lines.
skip() {
    printf 'SKIP %s\n' "$*"
}

fail() {
    printf 'FAIL %s\n' "$*" >&2
    exit 1
}

# package COMMAND PACKAGE: has COMMAND, from Debian's PACKAGE if it is missing.
package() {
    if command -v "$1" >/dev/null; then
        return 0
    fi
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        root=(sudo -n)
    fi
    printf 'installing %s for %s\n' "$2" "$1"
    if [ -z "${CORING_APT_UPDATED:-}" ]; then
        "${root[@]}" apt-get update -qq || return 1
        export CORING_APT_UPDATED=1
    fi
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$2" || return 1
    command -v "$1" >/dev/null
}

# Which nightly toolchain Miri and the sanitizers run on.
NIGHTLY="${CORING_NIGHTLY:-nightly}"

# nightly COMPONENT…: has the nightly toolchain with these components, installed if missing.
nightly() {
    local component missing=()
    if ! command -v rustup >/dev/null; then
        echo "there is no rustup here to get the toolchain $NIGHTLY"
        return 1
    fi
    if ! rustup run "$NIGHTLY" rustc --version >/dev/null 2>&1; then
        echo "installing the toolchain $NIGHTLY"
        timeout 300 rustup toolchain install "$NIGHTLY" --profile minimal --no-self-update ||
            return 1
    fi
    local installed
    installed="$(rustup component list --toolchain "$NIGHTLY" --installed 2>/dev/null)"
    for component in "$@"; do
        grep -q "^$component" <<<"$installed" || missing+=("$component")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        echo "installing ${missing[*]} for $NIGHTLY"
        timeout 300 rustup component add --toolchain "$NIGHTLY" "${missing[@]}" || return 1
    fi
    rustup run "$NIGHTLY" rustc --version
}

# loudly WHAT WHY: a whole step cannot run here.
loudly() {
    printf '\n!!! %s DOES NOT RUN ON THIS MACHINE: %s\n' "$1" "$2"
    printf '!!! What it would have found is not found.\n\n'
    skip "$1: $2"
}
