# What is done often; `just --list` tells it. `.ci/run` is what must hold before a merge.

export CARGO_TERM_COLOR := env("CARGO_TERM_COLOR", "auto")

# tells what there is
default:
    @just --list --unsorted

# formats everything
fmt:
    cargo fmt --all
    cargo fmt --all --manifest-path peers/Cargo.toml
    cargo fmt --manifest-path peers/oxide-outbox/Cargo.toml

# lints everything, as strictly as before a merge
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings

# runs all tests; arguments go to the runner, as `just test -E 'test(relay)'`
test *args:
    bash scripts/test.sh {{args}}

# runs a command beside a Redis server, as `just redis cargo nextest run -p outbox-redis`
redis *command:
    cargo run --quiet --package outbox-redis-harness --bin with-redis -- {{command}}

# runs the checks of the house rules alone
tidy:
    cargo nextest run -p outbox-core --test tidy

# builds the documentation; `just doc --open` shows it
doc *args:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps {{args}}

# runs simulated worlds, one a seed; `just sim 1000000` runs a million
sim seeds="10000" *args:
    cargo run --release --quiet -p outbox-proof -- sim {{seeds}} {{args}}

# runs one world again, and tells all that happened in it
replay seed:
    cargo run --release --quiet -p outbox-proof -- replay {{seed}}

# plants each bug of planted/ in a copy, and sees it found; names choose, `--check` only applies them
planted *names:
    bash scripts/planted.sh {{names}}

# kills real processes at random moments; tells kills, lost, doubled, and how soon others took over
crash kills="200":
    bash scripts/crash.sh {{kills}}

# checks licences, bans and sources of all dependencies
deny:
    cargo deny check licenses bans sources

# lints each feature by itself
hack:
    cargo hack clippy --workspace --each-feature --no-dev-deps -- -D warnings

# runs the main example; arguments go to it, as `just pipeline --inject-failures 0.1`
pipeline *args:
    cargo run --release --example pipeline --features sqlite -- {{args}}

# measures beside the limit; arguments choose work items, as `just bench P1 DLQ --short`
bench *args:
    cargo bench --features sqlite,redis,dlq --bench limits -- {{args}}

# draws what was measured into docs/plots; several reports give their medians
plots *reports:
    cargo bench --bench plots -- {{reports}}

# compares with other libraries; arguments choose items, as `just peers Q2000 O --short`
peers *args:
    cargo build --release --manifest-path peers/oxide-outbox/Cargo.toml --target-dir peers/target
    cargo build --release --manifest-path peers/Cargo.toml
    peers/target/release/peers {{args}}

# everything that must hold before a merge
ci:
    .ci/run
