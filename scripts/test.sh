#!/usr/bin/env bash
# Runs all tests of the workspace; installs the test runner and a Redis server where they are missing.
# Arguments go to the runner, as `scripts/test.sh -E 'binary(kit)'`.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo nextest --version >/dev/null 2>&1; then
    echo "installing cargo-nextest, which takes some minutes"
    cargo install --locked cargo-nextest
fi

# Tests that kill, freeze and fill a server start one of their own, also where Docker has another.
if ! command -v redis-server >/dev/null; then
    if ! command -v apt-get >/dev/null; then
        echo "redis-server is missing, and there is no apt-get: install Redis 7.0 or newer" >&2
        exit 1
    fi
    as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    echo "installing redis-server"
    "${as_root[@]}" apt-get update --quiet=2
    "${as_root[@]}" apt-get install --quiet=2 --yes --no-install-recommends redis-server
fi

# The rest shares one server: that of OUTBOX_TEST_REDIS_URL, else a container, else a process.
with_redis() {
    cargo run --quiet --package outbox-redis-harness --bin with-redis -- "$@"
}

with_redis cargo nextest run --workspace --all-features "$@"
with_redis cargo test --doc --workspace --all-features
