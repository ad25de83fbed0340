use std::sync::Arc;
use std::time::Duration;

use super::harness::{OutboxHarness, OutboxSetup, OutboxStore};
use crate::error::{BoxError, Result};
use crate::id::{Entropy, MessageId, WorkerId};
use crate::message::{Limits, NewMessage};
use crate::ports::{ClaimRequest, Outbox};
use crate::report::ClaimReport;
use crate::time::{ManualClock, Timestamp};

/// When every case begins.
pub(super) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// How long every claim's lease lasts.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// A fresh store with one handle on it, and two relays that may work.
pub(super) struct Scene {
    pub(super) store: Box<dyn OutboxStore>,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) clock: Arc<ManualClock>,
}

/// The relay that most cases claim with.
pub(super) const RELAY: WorkerId = WorkerId::from_bytes([1; 16]);

impl Scene {
    /// A store with default limits that deletes what is published.
    pub(super) async fn new(harness: &dyn OutboxHarness) -> Result<Self, BoxError> {
        Self::with(harness, Limits::default(), false).await
    }

    pub(super) async fn with(
        harness: &dyn OutboxHarness,
        limits: Limits,
        keep_published: bool,
    ) -> Result<Self, BoxError> {
        let clock = Arc::new(ManualClock::at(START));
        let setup = OutboxSetup {
            limits,
            keep_published,
            clock: Arc::clone(&clock) as _,
            entropy: Entropy::seeded(42),
        };
        let store = harness.fresh(setup).await?;
        let outbox = store.open().await?;
        Ok(Self {
            store,
            outbox,
            clock,
        })
    }

    /// Appends in a transaction of its own; the ids.
    pub(super) async fn append(&self, messages: &[NewMessage]) -> Result<Vec<MessageId>> {
        let report = self.outbox.append(messages).await?;
        Ok(report.messages.iter().map(|message| message.id).collect())
    }

    /// One claim of [`RELAY`] at `now`.
    pub(super) async fn claim(&self, max: usize, now: Timestamp) -> Result<ClaimReport> {
        let request = ClaimRequest {
            owner: RELAY,
            max,
            lease: LEASE,
            now,
            paused_topics: Vec::new(),
        };
        self.outbox.claim(&request).await
    }
}
