#!/usr/bin/env bash
# Kills as many processes of the examples as its argument says (200 where there is none), and tells
# what was lost or doubled, and how soon others took up what the killed had held.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --quiet --features sqlite --examples
OUTBOX_KILLS=${1:-200} OUTBOX_RECOVERIES=${2:-20} cargo test --quiet --features sqlite \
    --test crash -- --nocapture --test-threads 1 whoever_is_killed what_a_killed |
    grep -E '^(kills|recovery|  *[0-9.]+ s|test result)'
