//! The operator's story is told as it should be.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::panic, clippy::print_stdout)]

#[allow(dead_code, unused_imports, reason = "each test uses its part")]
mod support;

use support::Program;

const STORY: &str = "\
-- the warehouse is away for a while, then back, with a bug
delivered: 24
-- quarantine by cause
in quarantine: 36
   30 x failed of kind order.bulk
    6 x refused of kind order.gift
-- a look at one of the greatest group
from outbox, last error: pallet is null
-- the bug is mended; ten go first
redriven: 10, delivered: 34
-- none came back; the rest follows, 500 a second
redriven: 20, delivered: 54
-- the gifts are hopeless
discarded: 6
in quarantine: 0
-- what the audit says
ada redrive: 10 (canary)
ada redrive: 20 (pallets are mended)
ada discard: 6 (unknown customer)
-- 30 bulk orders arrived, each customer's in order
";

/// The story of a worker: it tries again and rejects where a relay fails and is refused, and what it
/// tries again goes to the end.
#[cfg(feature = "redis")]
fn story_of_a_queue() -> String {
    let words = [
        ("failed of", "retry of"),
        ("refused of", "reject of"),
        ("from outbox", "from queue"),
        ("each customer's in order", "each once"),
    ];
    let replace = |story: String, (of_outbox, of_queue)| story.replace(of_outbox, of_queue);
    words.into_iter().fold(STORY.to_owned(), replace)
}

#[tokio::test]
async fn poison_and_outage_are_told_apart_mended_and_sent_back_in_order() {
    let finished = Program::new("dlq_operator").run().await.expect(0);
    assert_eq!(finished.told, STORY);
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn what_a_queue_on_redis_gave_up_is_counted_mended_and_sent_back() {
    let shared = outbox_redis_harness::Shared::start().await.unwrap();
    let entropy = outbox::id::Entropy::from_system();
    let prefix = format!("operator-{:x}", entropy.next_u64());
    for _ in 0..2 {
        let program = Program::new("dlq_operator").with("--redis", shared.url());
        let program = program.env("OUTBOX_REDIS_PREFIX", &prefix);
        let finished = program.run().await.expect(0);
        assert_eq!(finished.told, story_of_a_queue());
    }
}
