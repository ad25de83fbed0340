//! The Redis backends pass the conformance kit, on a real server.
use std::process::ExitCode;
use std::sync::Arc;

use outbox_core::testing::{DedupHarness, Kit, QueueHarness, dedup_cases, queue_cases};

mod dedup;
#[cfg(feature = "dlq")]
mod dlq;
mod dump;
mod queue;
mod rate_limit;
mod server;

fn main() -> ExitCode {
    let compact: Arc<dyn DedupHarness> = Arc::new(dedup::RedisHarness::compact());
    let sets: Arc<dyn DedupHarness> = Arc::new(dedup::RedisHarness::sets());
    let (packed, in_sets) = (compact.capabilities(), sets.capabilities());
    let fan_out: Arc<dyn QueueHarness> = Arc::new(queue::RedisHarness {
        fan_out: true,
        ..Default::default()
    });
    let batches: Arc<dyn QueueHarness> = Arc::new(queue::RedisHarness {
        batches: true,
        ..Default::default()
    });
    let queue = fan_out.capabilities();
    let kit = Kit::new("redis");
    #[cfg(feature = "dlq")]
    let kit = dlq::with_both(kit);
    kit.queue(queue::RedisHarness::default())
        .with("queue-fan-out", fan_out, &queue, queue_cases())
        .with("queue-batches", batches, &queue, queue_cases())
        .dedup(dedup::RedisHarness::plain())
        .with("dedup-compact", compact, &packed, dedup_cases())
        .with("dedup-sets", sets, &in_sets, dedup_cases())
        .rate_limit(rate_limit::RedisHarness::default())
        .run()
}
