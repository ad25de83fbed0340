use std::sync::Arc;

use super::harness::{QueueCapabilities, QueueHarness};
use super::{
    cancel, dequeue, duplicates, enqueue, fencing, full, malformed, outcomes, recover, stats, wait,
};
use crate::testing::kit::{Case, Kit};

/// A case of the queue's port.
pub(super) type QueueCase = Case<dyn QueueHarness, QueueCapabilities>;

/// Every case of [`crate::ports::Queue`].
pub fn queue_cases() -> impl Iterator<Item = Case<dyn QueueHarness, QueueCapabilities>> {
    let files = [
        enqueue::CASES,
        duplicates::CASES,
        full::CASES,
        dequeue::CASES,
        wait::CASES,
        malformed::CASES,
        outcomes::CASES,
        fencing::CASES,
        recover::CASES,
        stats::CASES,
        cancel::CASES,
    ];
    files.into_iter().flatten().copied()
}

impl Kit {
    /// Adds every case of [`crate::ports::Queue`].
    #[must_use]
    pub fn queue(self, harness: impl QueueHarness + 'static) -> Self {
        let harness: Arc<dyn QueueHarness> = Arc::new(harness);
        let capabilities = harness.capabilities();
        self.with("queue", harness, &capabilities, queue_cases())
    }
}
