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

# Whether simulated worlds break a rule, and which.
by_sim() {
    local log=$1 code
    cargo build --quiet --profile planted -p outbox-proof >"$log" 2>&1 || return 2
    timeout 1800 "$CARGO_TARGET_DIR/planted/outbox-proof" sim "$seeds" >"$log" 2>&1
    code=$?
    [ $code -ne 124 ] || return 3
    local rule run
    rule=$(sed -n 's/^seed [0-9]*: \("[^"]*"\) does not hold.*/\1/p' "$log" | head -1)
    run=$(sed -n 's/^seeds: \([0-9]*\),.*/\1/p' "$log" | tail -1)
    [ $code -eq 1 ] && [ -n "$rule" ] || return 1
    echo "by the rule $rule, after $run seeds"
}

# Whether the test called $3 fails, and not only something beside it.
by_test() {
    local log=$1 command=$2 name=$3 code
    # shellcheck disable=SC2086 # the command is to be split into its words
    cargo test --quiet --profile planted $command --no-run >"$log" 2>&1 || return 2
    # shellcheck disable=SC2086
    timeout 300 cargo test --profile planted $command -- --exact "$name" >"$log" 2>&1
    code=$?
    [ $code -ne 124 ] || return 3
    [ $code -ne 0 ] && grep -qxE "test (\[.*\] )?$name +\.\.\. FAILED" "$log" || return 1
    echo "by the test $name"
}

# Whether the bug is found by what its patch says; tells by what. Fails with 1 where it is not, with
# 2 where it does not build, and with 3 where the run does not end: that finds nothing.
find_bug() {
    local patch=$1 log=$2 by name
    by=$(header "$patch" found-by)
    name=$(header "$patch" test)
    case $by in
    sim) by_sim "$log" ;;
    -*) [ -n "$name" ] && by_test "$log" "$by" "$name" ;;
    *) return 1 ;;
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
        [ -n "$(header "$patch" fault)" ] || { echo "$patch does not say its fault" >&2; failed=1; }
        [ "$(header "$patch" found-by)" = sim ] || [ -n "$(header "$patch" test)" ] ||
            { echo "$patch does not say by what it is found" >&2; failed=1; }
        test=$(header "$patch" test)
        [ -z "$test" ] || grep -rqwF --include '*.rs' "${test##*::}" crates tests ||
            { echo "$patch names a test that is not there: $test" >&2; failed=1; }
    done
    echo "${#all[@]} bugs apply"
    exit "${failed:-0}"
fi

for name in "$@"; do
    [ -f "planted/$name.patch" ] || { echo "no bug is called $name" >&2; exit 1; }
done
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
    said=$(cd "$copy" && find_bug "$OLDPWD/$patch" "$OLDPWD/target/planted/$name.log")
    code=$?
    case $code in
    0) found=$((found + 1)); echo "$name: found $said" ;;
    2) survived=$((survived + 1)); echo "$name: DOES NOT BUILD (target/planted/$name.log)" ;;
    3) survived=$((survived + 1)); echo "$name: DOES NOT END ($(header "$patch" fault))" ;;
    *) survived=$((survived + 1)); echo "$name: SURVIVED ($(header "$patch" fault))" ;;
    esac
done
echo "planted: $((found + survived)), found: $found, survived: $survived"
[ "$survived" -eq 0 ]
