//! The SQLite backends pass the conformance kit, on real files.
use std::process::ExitCode;

use outbox_core::testing::Kit;

mod dedup;
mod outbox;
mod queue;
mod rate_limit;

fn main() -> ExitCode {
    Kit::new("sqlite")
        .outbox(outbox::SqliteHarness)
        .queue(queue::SqliteHarness)
        .dedup(dedup::SqliteHarness)
        .rate_limit(rate_limit::SqliteHarness)
        .run()
}
