use std::sync::Arc;

use super::append;
use super::harness::{OutboxCapabilities, OutboxHarness};
use crate::testing::kit::{Case, Kit};

/// A case of the outbox's ports.
pub(super) type OutboxCase = Case<dyn OutboxHarness, OutboxCapabilities>;

/// Every case of [`crate::ports::Outbox`] and [`crate::ports::TransactionalOutbox`].
pub fn outbox_cases() -> impl Iterator<Item = Case<dyn OutboxHarness, OutboxCapabilities>> {
    [append::CASES].into_iter().flatten().copied()
}

impl Kit {
    /// Adds every case of [`crate::ports::Outbox`] and [`crate::ports::TransactionalOutbox`].
    #[must_use]
    pub fn outbox(self, harness: impl OutboxHarness + 'static) -> Self {
        let harness: Arc<dyn OutboxHarness> = Arc::new(harness);
        let capabilities = harness.capabilities();
        self.with("outbox", harness, &capabilities, outbox_cases())
    }
}
