//! The SQLite backends pass the conformance kit, on real files.
use std::process::ExitCode;

use outbox_core::testing::Kit;

mod dedup;
#[cfg(feature = "dlq")]
mod dlq;
mod outbox;
mod queue;
mod rate_limit;

fn main() -> ExitCode {
    let kit = Kit::new("sqlite");
    #[cfg(feature = "dlq")]
    let kit = outbox_dlq::testing::with_dlq(kit, dlq::SqliteHarness);
    kit.outbox(outbox::SqliteHarness)
        .queue(queue::SqliteHarness)
        .dedup(dedup::SqliteHarness)
        .rate_limit(rate_limit::SqliteHarness)
        .run()
}
