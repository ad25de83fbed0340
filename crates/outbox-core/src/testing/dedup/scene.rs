use std::sync::Arc;
use std::time::Duration;

use super::harness::{DedupHarness, DedupStore};
use crate::error::{BoxError, Result};
use crate::id::MessageId;
use crate::ports::{Claim, ClaimToken, DeduplicationCache};
use crate::time::Timestamp;

/// When every case begins.
pub(super) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// How long every claim lasts.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// How long an id is remembered once it is processed.
pub(super) const TTL: Duration = Duration::from_secs(3_600);

/// Just less than any lease.
pub(super) const MOMENT: Duration = Duration::from_millis(1);

/// The id that most cases are about.
pub(super) const ID: MessageId = MessageId::from_bytes([7; 16]);

/// A fresh cache with one handle on it.
pub(super) struct Scene {
    pub(super) store: Box<dyn DedupStore>,
    pub(super) cache: Arc<dyn DeduplicationCache>,
}

impl Scene {
    pub(super) async fn new(harness: &dyn DedupHarness) -> Result<Self, BoxError> {
        let store = harness.fresh().await?;
        let cache = store.open().await?;
        Ok(Self { store, cache })
    }

    /// The answer to a claim of [`ID`] at `now`.
    pub(super) async fn claim(&self, now: Timestamp) -> Result<Claim, BoxError> {
        match self.cache.claim(&[ID], LEASE, now).await?[..] {
            [claim] => Ok(claim),
            ref others => Err(format!("one answer for one id: {others:?}").into()),
        }
    }

    /// A claim of [`ID`] at `now` that is to succeed.
    pub(super) async fn acquire(
        &self,
        now: Timestamp,
    ) -> Result<(MessageId, ClaimToken), BoxError> {
        acquired(self.claim(now).await?)
    }
}

/// The proof in a claim of [`ID`] that was acquired.
pub(super) fn acquired(claim: Claim) -> Result<(MessageId, ClaimToken), BoxError> {
    match claim {
        Claim::Acquired(token) => Ok((ID, token)),
        other => Err(format!("the claim was to be acquired: {other:?}").into()),
    }
}

/// Distinct ids.
pub(super) fn ids(count: u8) -> Vec<MessageId> {
    (0..count).map(|n| MessageId::from_bytes([n; 16])).collect()
}
