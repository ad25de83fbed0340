#!/usr/bin/env bash
# Plants each bug of planted/ in a copy of the tree, one at a time, and sees it found.
#
#   scripts/planted.sh             all of them; arguments choose by name
#   scripts/planted.sh --check     only whether each still applies
#
# Prints a line for each; fails where one survives or no longer applies.
set -uo pipefail
cd "$(dirname "$0")/.."

seeds=10000
copy=target/planted/tree
dirty=target/planted/dirty
export CARGO_TARGET_DIR=$PWD/target/planted/target
export CARGO_INCREMENTAL=1 CARGO_TERM_COLOR=never

# What stands behind a word at the beginning of a line of a patch.
header() {
    sed -n "s/^$2: //p" "$1" | head -1
}

# Makes the copy what the tree is. What a bug was in is touched, so that it is built anew.
refresh() {
    mkdir -p "$copy"
    git ls-files -z --cached --others --exclude-standard |
        tar --create --null --files-from=- --ignore-failed-read 2>/dev/null |
        tar --extract --directory "$copy"
    [ -d "$copy/.git" ] || git -C "$copy" init -q
    if [ -f "$dirty" ]; then (cd "$copy" && xargs touch --no-create) <"$dirty"; fi
}

# Whether the bug is found; says by what on the first line of the output file.
find_bug() {
    local by=$1 log=$2
    case $by in
    sim)
        cargo build --quiet --profile planted -p outbox-proof >"$log" 2>&1 || return 2
        timeout 3000 "$CARGO_TARGET_DIR/planted/outbox-proof" sim "$seeds" >"$log" 2>/dev/null
        local code=$?
        [ $code -eq 1 ] || return 1
        grep -o '^seeds: [0-9]*' "$log" | tail -1 | sed 's/seeds: \(.*\)/after \1 seeds: /' | tr -d '\n'
        sed -n 's/^seed \([0-9]*\): \(.*\) does not hold.*/seed \1, \2/p' "$log" | head -1
        ;;
    test\ *)
        # shellcheck disable=SC2086 # the command is to be split into its words
        cargo ${by/test/test --quiet --profile planted --no-run} >"$log" 2>&1 || return 2
        # shellcheck disable=SC2086
        timeout 600 cargo ${by/test/test --quiet --profile planted} >"$log" 2>&1 && return 1
        echo "by cargo $by: $(grep -oE '^test .* (FAILED|failed)|^    [a-z0-9_:]+$' "$log" | head -1 | xargs)"
        ;;
    *) return 3 ;;
    esac
}

mkdir -p target/planted
exec 9>target/planted/running
flock --nonblock 9 || { echo "bugs are being planted already" >&2; exit 1; }

all=(planted/*.patch)
[ ${#all[@]} -ge 25 ] || { echo "only ${#all[@]} bugs in planted/" >&2; exit 1; }
if [ "${1:-}" = --check ]; then
    for patch in "${all[@]}"; do
        git apply --check "$patch" || { echo "$patch no longer applies" >&2; failed=1; }
        [ -n "$(header "$patch" fault)" ] && [ -n "$(header "$patch" found-by)" ] ||
            { echo "$patch does not say its fault, or what finds it" >&2; failed=1; }
    done
    echo "${#all[@]} bugs apply"
    exit "${failed:-0}"
fi

found=0 survived=0
for patch in "${all[@]}"; do
    name=$(basename "$patch" .patch)
    if [ $# -gt 0 ] && [[ " $* " != *" $name "* ]]; then continue; fi
    refresh
    git apply --numstat "$patch" | cut -f3 >"$dirty"
    (cd "$copy" && git apply "$OLDPWD/$patch" && xargs touch <"$OLDPWD/$dirty") || {
        echo "$name: DOES NOT APPLY"
        survived=$((survived + 1))
        continue
    }
    said=$(cd "$copy" && find_bug "$(header "$OLDPWD/$patch" found-by)" "$OLDPWD/target/planted/$name.log")
    code=$?
    case $code in
    0) found=$((found + 1)); echo "$name: found $said" ;;
    2) survived=$((survived + 1)); echo "$name: DOES NOT BUILD (target/planted/$name.log)" ;;
    *) survived=$((survived + 1)); echo "$name: SURVIVED ($(header "$patch" fault))" ;;
    esac
done
echo "planted: $((found + survived)), found: $found, survived: $survived"
[ "$survived" -eq 0 ]
