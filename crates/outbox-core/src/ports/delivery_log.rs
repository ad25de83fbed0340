use async_trait::async_trait;

use crate::error::Result;
use crate::id::MessageId;
use crate::time::Timestamp;

/// Remembers which destination has which message, so that repeating a message that several
/// destinations share sends it only where it is missing.
///
/// # Contract
/// - **record** is durable when it answers, by the standard of the log; it takes effect for all of
///   its ids or for none. Recording again changes nothing but the record's age.
/// - **delivered** answers one truth for each id, in their order; a message is known to one
///   destination by its record for that destination alone.
/// - A record is forgotten by **purge** only, and only once it is older than asked.
/// - The cost of a call grows with its ids, not with the log.
///
/// # Cancel safety
/// As for all ports. A send that was not recorded is sent again: at least once.
#[async_trait]
#[doc(alias = "outbox_delivery_log")]
pub trait DeliveryLog: Send + Sync {
    /// Whether `destination` has each of `ids`.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the log failed.
    async fn delivered(&self, ids: &[MessageId], destination: &str) -> Result<Vec<bool>>;

    /// Records at `now` that `destination` has each of `ids`.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the log failed; record them again.
    async fn record(&self, ids: &[MessageId], destination: &str, now: Timestamp) -> Result<()>;

    /// Forgets up to `max` records that were made before `before`, oldest first; answers how many.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the log failed.
    async fn purge(&self, before: Timestamp, max: usize) -> Result<u64>;
}
