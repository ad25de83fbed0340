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

#[tokio::test]
async fn poison_and_outage_are_told_apart_mended_and_sent_back_in_order() {
    let finished = Program::new("dlq_operator").run().await.expect(0);
    assert_eq!(finished.told, STORY);
}
