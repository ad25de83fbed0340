#!/usr/bin/env bash
# Kills as many processes of the examples as its argument says (200 where there is none) on SQLite, and
# as many on Redis, and tells
# what was lost or doubled, and how soon others took up what the killed had held.
set -euo pipefail
cd "$(dirname "$0")/.."

# Runs the test called $1, whose processes share $2.
crash() {
    echo "over $2:"
    OUTBOX_KILLS=$kills OUTBOX_RECOVERIES=$recoveries cargo test --quiet --features sqlite,redis \
        --test "$1" -- --nocapture --test-threads 1 whoever_is_killed what_a_killed |
        grep -E '^(kills|recovery|  *[0-9.]+ s|test result)'
}

kills=${1:-200} recoveries=${2:-20}
cargo build --quiet --features sqlite,redis --examples
crash crash "one SQLite file"
crash crash_redis "a SQLite file and a Redis server, which is killed, too"
