//! The memory fittings pass the conformance kit. One harness a port, each in a file of its own.
use std::process::ExitCode;

use outbox_core::testing::Kit;

mod dedup;
mod outbox;
mod queue;
mod rate_limit;

fn main() -> ExitCode {
    Kit::new("memory")
        .outbox(outbox::MemoryHarness)
        .queue(queue::MemoryHarness)
        .dedup(dedup::MemoryHarness)
        .rate_limit(rate_limit::MemoryHarness)
        .run()
}
