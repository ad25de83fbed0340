use async_trait::async_trait;

use crate::error::Result;
use crate::lease::Sequence;
use crate::report::ReplayReport;
use crate::time::Timestamp;

/// Asks an outbox to publish again what it has published.
///
/// ```
/// use outbox_core::ports::{ReplayFrom, ReplayRequest};
/// use outbox_core::lease::Sequence;
///
/// let request = ReplayRequest::of_all(ReplayFrom::Sequence(Sequence(1_001)));
/// assert!(request.topics.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRequest {
    /// Where to begin.
    pub from: ReplayFrom,
    /// Only messages of these topics; of every topic where there are none.
    pub topics: Vec<String>,
}

/// Where a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayFrom {
    /// With the message at this place in commit order; 0 is all that is kept.
    Sequence(Sequence),
    /// With what was settled as published at this moment or later, by the outbox's clock.
    PublishedAt(Timestamp),
}

impl ReplayRequest {
    /// A replay of every topic.
    #[must_use]
    pub fn of_all(from: ReplayFrom) -> Self {
        Self {
            from,
            topics: Vec::new(),
        }
    }
}

/// An outbox that keeps published messages, and can publish them again: what a destination has lost
/// is sent once more, as long as it is retained.
///
/// # Contract
/// - Every published message that is kept and asked for is Ready again, in its old place, with its
///   id, its content and its sequence; its attempts begin anew.
/// - A replay is fenced: who holds the lease loses it, so that nothing claimed before is settled
///   after, and no later message of a key overtakes a replayed one. One that finds nothing changes
///   nothing.
/// - What is unsent or in quarantine is left as it is; what was purged cannot be replayed.
/// - It wakes the relay, and leaves the lease free.
///
/// # Cancel safety
/// A dropped call may have replayed a part, and holds up relays for up to 10 s; repeat it.
#[async_trait]
pub trait Replay: Send + Sync {
    /// Makes published messages ready again; answers how many, and which epoch they begin with.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed: a part may be replayed; repeat it.
    async fn replay(&self, request: &ReplayRequest) -> Result<ReplayReport>;
}
