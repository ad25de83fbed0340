#!/usr/bin/env bash
# Runs all tests of the workspace; installs the test runner, a Redis server and strace where they are missing.
# Arguments go to the runner, as `scripts/test.sh -E 'binary(kit)'`.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo nextest --version >/dev/null 2>&1; then
    echo "installing cargo-nextest, which takes some minutes"
    cargo install --locked cargo-nextest
fi

# Installs a program from the Debian package of its name where it is missing.
need() {
    command -v "$1" >/dev/null && return
    if ! command -v apt-get >/dev/null; then
        echo "$1 is missing, and there is no apt-get: install $2" >&2
        exit 1
    fi
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    echo "installing $1"
    "${as_root[@]}" apt-get update --quiet=2
    "${as_root[@]}" apt-get install --quiet=2 --yes --no-install-recommends "$1"
}

# Tests that kill, freeze and fill a server start one of their own, also where Docker has another.
need redis-server "Redis 7.0 or newer"
# Faults of the disk are injected into system calls.
need strace "strace, which works on Linux"

# The rest shares one server: that of OUTBOX_TEST_REDIS_URL, else a container, else a process.
with_redis() {
    cargo run --quiet --package outbox-redis-harness --bin with-redis -- "$@"
}

with_redis cargo nextest run --workspace --all-features "$@"
with_redis cargo test --doc --workspace --all-features
