use std::sync::Arc;

use super::harness::{DedupCapabilities, DedupHarness};
use super::{claim, expiry, fencing, processed};
use crate::testing::kit::{Case, Kit};

/// A case of the deduplication cache's port.
pub(super) type DedupCase = Case<dyn DedupHarness, DedupCapabilities>;

/// Every case of [`crate::ports::DeduplicationCache`].
pub fn dedup_cases() -> impl Iterator<Item = Case<dyn DedupHarness, DedupCapabilities>> {
    [
        claim::CASES,
        fencing::CASES,
        expiry::CASES,
        processed::CASES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

impl Kit {
    /// Adds every case of [`crate::ports::DeduplicationCache`].
    #[must_use]
    pub fn dedup(self, harness: impl DedupHarness + 'static) -> Self {
        let harness: Arc<dyn DedupHarness> = Arc::new(harness);
        let capabilities = harness.capabilities();
        self.with("dedup", harness, &capabilities, dedup_cases())
    }
}
