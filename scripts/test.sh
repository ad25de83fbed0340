#!/usr/bin/env bash
# Runs all tests of the workspace; installs the test runner where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo nextest --version >/dev/null 2>&1; then
    echo "installing cargo-nextest, which takes some minutes"
    cargo install --locked cargo-nextest
fi

cargo nextest run --workspace --all-features "$@"
cargo test --doc --workspace --all-features
