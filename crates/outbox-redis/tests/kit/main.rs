//! The Redis backends pass the conformance kit, on a real server.
use std::process::ExitCode;
use std::sync::Arc;

use outbox_core::testing::{DedupHarness, Kit, dedup_cases};

mod dedup;
mod rate_limit;
mod server;

fn main() -> ExitCode {
    let compact: Arc<dyn DedupHarness> = Arc::new(dedup::RedisHarness::compact());
    let capabilities = compact.capabilities();
    Kit::new("redis")
        .dedup(dedup::RedisHarness::plain())
        .with("dedup-compact", compact, &capabilities, dedup_cases())
        .rate_limit(rate_limit::RedisHarness::default())
        .run()
}
