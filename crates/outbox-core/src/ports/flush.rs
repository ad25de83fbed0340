use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::report::Tally;

/// What a flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlushReport {
    /// What was done.
    pub tally: Tally,
    /// Messages that are still unsent; zero where the flush is complete.
    pub unsent: u64,
}

impl FlushReport {
    /// Whether nothing is left to send.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unsent == 0
    }
}

/// Sends what is in an outbox until nothing is left, or until it gives up.
///
/// # Contract
/// A report says `unsent: 0` only where every message that was in the outbox is published or in
/// quarantine. Messages whose due time is to come are waited for only as long as the implementation
/// states.
///
/// # Cancel safety
/// What was sent stays sent; the rest stays in the outbox.
#[async_trait]
pub trait Flush: Send + Sync {
    /// Flushes the outbox.
    ///
    /// # Errors
    /// Where the outbox itself fails for good; destinations that fail are told in the report.
    async fn flush(&self) -> Result<FlushReport>;
}
