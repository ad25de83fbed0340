#!/usr/bin/env bash
# Reads what an example printed with --json, and checks the figures in its last line: everything was
# handled, and nothing was lost.
set -euo pipefail

figures=$(tail -n 1)
echo "$figures"

# The number of one figure, and an error where it is missing.
figure() {
    local number
    number=$(sed -nE "s/.*\"$1\": *([0-9]+).*/\1/p" <<<"$figures")
    [ -n "$number" ] || { echo "the last line has no figure \"$1\"" >&2; exit 1; }
    echo "$number"
}

produced=$(figure produced)
handled=$(figure handled)
lost=$(figure lost)
[ "$produced" -gt 0 ] || { echo "nothing was produced" >&2; exit 1; }
[ "$handled" -eq "$produced" ] || { echo "$handled of $produced were handled" >&2; exit 1; }
[ "$lost" -eq 0 ] || { echo "$lost were lost" >&2; exit 1; }
echo "all $produced were handled, and none was lost"
