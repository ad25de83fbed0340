//! The queue, the deduplication cache and the limiters pass the conformance kit, on real files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::ExitCode;

use outbox_core::testing::Kit;

mod dedup;
mod queue;
mod rate_limit;

fn main() -> ExitCode {
    Kit::new("sqlite")
        .queue(queue::SqliteHarness)
        .dedup(dedup::SqliteHarness)
        .rate_limit(rate_limit::SqliteHarness)
        .run()
}
