use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::id::MessageId;
use crate::time::Timestamp;

/// Proof of a deduplication claim.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClaimToken(pub u64);

/// The answer to a deduplication claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The caller may process the message; it must `complete`, `extend` or `release` with the token.
    Acquired(ClaimToken),
    /// Another holds it until the given moment and may still fail: come back, acknowledge nothing.
    InProgress {
        /// When the other's claim ends unless it is extended.
        until: Timestamp,
    },
    /// It was processed.
    Done,
}

/// Memory of processed messages outside the effect's own transaction: best effort.
///
/// # Contract
/// - Each method is atomic for each id; of any number of concurrent claims of an id, one acquires.
/// - A claim that is neither completed nor extended ends with its lease.
/// - `complete`, `extend` and `release` with a token that is not the live one change nothing and
///   answer `false`: a failing duplicate cannot remove the winner's record.
/// - Every remembered id is kept for its whole time and then expires; a backend says how much later
///   that may be.
///
/// # Cancel safety
/// A dropped `claim` may hold the id until its lease ends.
#[async_trait]
#[doc(alias = "DeduplicationCacheInterface")]
pub trait DeduplicationCache: Send + Sync {
    /// Claims each of `ids` for `lease`, and answers in their order; a repeated id is in progress.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed.
    async fn claim(&self, ids: &[MessageId], lease: Duration, now: Timestamp)
    -> Result<Vec<Claim>>;

    /// Records each claimed id as processed, remembered for `ttl`; whether each took effect.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed.
    async fn complete(
        &self,
        claims: &[(MessageId, ClaimToken)],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Vec<bool>>;

    /// Extends each claim to `lease` from `now`; whether each took effect.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed.
    async fn extend(
        &self,
        claims: &[(MessageId, ClaimToken)],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<bool>>;

    /// Gives claims back unprocessed; whether each took effect.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed.
    async fn release(
        &self,
        claims: &[(MessageId, ClaimToken)],
        now: Timestamp,
    ) -> Result<Vec<bool>>;

    /// Whether `id` was processed and is still remembered.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed.
    async fn is_processed(&self, id: MessageId, now: Timestamp) -> Result<bool>;

    /// Records `id` as processed for `ttl`, whoever holds a claim on it; whether it is news.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed.
    async fn record_processed(&self, id: MessageId, ttl: Duration, now: Timestamp) -> Result<bool>;

    /// Forgets up to `max` ids that have expired; answers how many. Backends whose store expires by
    /// itself answer 0.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed.
    async fn purge(&self, now: Timestamp, max: usize) -> Result<u64>;
}
