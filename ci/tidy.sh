#!/usr/bin/env bash
# What no compiler checks: that the map is true, and that nothing is left lying about.
#
#   ci/tidy.sh     prints every fault, not only the first
source "$(dirname "$0")/lib.sh"

faults=0
fault() {
    printf 'tidy: %s\n' "$*"
    faults=$((faults + 1))
}
# each MESSAGE: a fault for each line of the input.
each() {
    local line
    while IFS= read -r line; do
        fault "$1: $line"
    done
}
map=ARCHITECTURE.md
self=ci/tidy.sh # Holds the words that it looks for.

# Strings, not pipes into `grep -q`: that ends early, and a pipe that breaks is a failure here.
tracked="$(git ls-files)"

# ---- the map ----

[ -f "$map" ] || fail "$map is not there"
[ "$(wc -l <"$map")" -lt 400 ] || fault "$map has $(wc -l <"$map") lines: under 400 is the rule"

# Whatever stands in backquotes and looks like a file or a folder is one.
while IFS= read -r name; do
    [ -e "$name" ] || grep -qE "(^|/)${name//./\\.}\$" <<<"$tracked" ||
        fault "$map names $name, which is not there"
done < <(grep -oE '`[A-Za-z0-9_./-]+`' "$map" | tr -d '`' |
    grep -E '\.(rs|sh|md|toml|yml)$|/$|^\.ci/' | sort -u)

# Unsafe code is where the section "Unsafe" says; a folder there stands for all that is in it.
mapfile -t allowed < <(awk '/^## /{in_it = /^## Unsafe/} in_it' "$map" |
    grep -oE '^[*-] `[^`]+`' | grep -oE '`[^`]+`' | tr -d '`')
[ ${#allowed[@]} -gt 0 ] || fault "$map has no list of files with unsafe code"
mapfile -t unsafe_files < <(git grep -lE '\bunsafe (\{|impl|fn|trait|extern)' -- '*.rs' || true)
for file in "${unsafe_files[@]}"; do
    for name in "${allowed[@]}"; do
        case "$file" in "$name" | "${name%/}"/*) continue 2 ;; esac
    done
    fault "$file has unsafe code, which $map does not say"
done
for name in "${allowed[@]}"; do
    grep -q "^$name" <<<"$(printf '%s\n' "${unsafe_files[@]}")" ||
        fault "$map says that $name has unsafe code, which it has not"
done

# ---- what is left lying about ----

# TODO(area): condition is fine; bare ones, and tests that are off without a reason, are not.
each 'finish it, or say when and why' < <(git grep -nE '\bTODO\b[^(]|\bTODO$|\bFIXME\b|\btodo!|\bunimplemented!|#\[ignore\]' \
    -- '*.rs' '*.toml' '*.sh' '.ci/run' ":!$self" || true)

# Paths of somebody's machine, and hosts of registries.
each 'means nothing elsewhere' < <(git grep -nE '/work/|/root/|/home/[a-z]|(index|static)\.crates\.io|static\.rust-lang\.org|pypi\.org|deb\.debian\.org|registry\.npmjs\.org' \
    -- . ":!$self" ':!*.lock' || true)

# ---- size and form ----

while IFS= read -r file; do
    lines="$(wc -l <"$file")"
    [ "$lines" -le 900 ] || fault "$file has $lines lines: split it where a name adds meaning"
done < <(git ls-files '*.rs' '*.sh' '*.md' '*.toml' ':!CHANGELOG.md')

while IFS= read -r file; do
    titles="$(awk '/^ *```/{fence = !fence} !fence && /^# /{n++} END{print n + 0}' "$file")"
    [ "$titles" -eq 1 ] || fault "$file has $titles titles (# …): one is the rule"
done < <(git ls-files '*.md')

while IFS= read -r file; do
    bash -n "$file" || fault "$file does not parse"
    [ "$file" = ci/lib.sh ] || [ -x "$file" ] || fault "$file is not executable"
done < <(git ls-files 'ci/*.sh' '.ci/run')

[ "$faults" -eq 0 ] || fail "tidy: $faults faults"
echo "tidy: no faults in $(git ls-files | wc -l) files"
