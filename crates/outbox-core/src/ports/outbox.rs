use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::id::WorkerId;
use crate::lease::LeaseToken;
use crate::message::NewMessage;
use crate::report::{AppendReport, ClaimReport, OutboxStats, SettleReport};
use crate::signal::Wake;
use crate::status::{AttemptRecord, OnFailure};
use crate::time::Timestamp;

/// Asks an outbox for messages to publish.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Who claims: one incarnation of a relay.
    pub owner: WorkerId,
    /// The most messages to answer; at least 1.
    pub max: usize,
    /// How long the lease lasts unless it is extended.
    pub lease: Duration,
    /// The present moment.
    pub now: Timestamp,
    /// Topics whose destination takes nothing now: their messages wait, at no cost to others.
    pub paused_topics: Vec<String>,
}

/// What became of one claimed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The proof that came with the claim.
    pub token: LeaseToken,
    /// What became of it.
    pub outcome: Outcome,
}

/// What is to become of a claimed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was published: it is deleted, or kept for the retention window.
    #[doc(alias = "record_success")]
    Published,
    /// It failed: try again at `due_at`. Counts an attempt.
    #[doc(alias = "record_failure")]
    Retry {
        /// When to try again.
        #[doc(alias = "next_retry_at")]
        due_at: Timestamp,
        /// What went wrong.
        failure: AttemptRecord,
        /// What happens to its ordering key meanwhile.
        on_failure: OnFailure,
    },
    /// It failed for the last time, or was refused: move it to quarantine. Counts an attempt.
    #[doc(alias = "quarantine_events")]
    Quarantine {
        /// What went wrong.
        failure: AttemptRecord,
        /// Whether its ordering key stays parked.
        on_failure: OnFailure,
    },
    /// It was not tried: it is claimable again at once, in its old place. Counts no attempt.
    Release,
    /// It was not tried, because its destination takes nothing now: it waits until `until`, or
    /// until its topic is claimed unpaused, whichever is later. Counts no attempt.
    Hold {
        /// When to look again.
        until: Timestamp,
    },
}

/// The durable table that messages are appended to, and that relays claim from.
///
/// # Contract
/// - **append**: the messages exist if and only if the transaction commits; their ids are made here
///   unless they bring their own, and a repeated id or idempotency key adds nothing, fails no other
///   message, and answers with the first message's id.
/// - **claim**: each message is leased to at most one owner at a time. Messages come in commit order,
///   but that those without an ordering key may go ahead of a backlog; one behind an unfinished
///   message of the same ordering key that waits, is parked or is held is not claimed. A message that the same owner has claimed and not settled is not claimed again
///   while its lease lives. An unreadable row is quarantined by itself and told. The cost does not
///   grow with the backlog.
/// - **settle**: all settlements of a call take effect together. One whose lease went to another
///   changes nothing and is told as lost.
/// - **extend**: only a live holder's lease is extended; the others are told.
/// - **release**: ends all leases of an owner at once, so that another may claim without waiting.
/// - Nothing unsent is ever deleted, by age or otherwise.
///
/// # Cancel safety
/// As for all ports: a dropped call took effect or did not. A dropped `claim` may have leased
/// messages: they come back when the lease ends, or on `release`.
#[async_trait]
#[doc(alias = "TaskOutboxInterface")]
#[doc(alias = "OutboxRepositoryProtocol")]
#[doc(alias = "OutboxStorage")]
pub trait Outbox: Send + Sync {
    /// Appends `messages` in a transaction of its own and answers once they are durable.
    ///
    /// # Errors
    /// [`crate::OutboxError::Limit`] or [`crate::OutboxError::Codec`] before anything is touched;
    /// [`crate::OutboxError::Backend`] where the store failed: then nothing was appended, or, where
    /// the error is transient, that is unknown.
    #[doc(alias = "insert_tasks")]
    async fn append(&self, messages: &[NewMessage]) -> Result<AppendReport>;

    /// Leases up to `request.max` messages to `request.owner`.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed; nothing is lost by that.
    #[doc(alias = "select_pending_tasks")]
    async fn claim(&self, request: &ClaimRequest) -> Result<ClaimReport>;

    /// Records what became of claimed messages, fenced by their tokens.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed; call it again with the same
    /// settlements, one that took effect already is told as lost.
    #[doc(alias = "update_tasks_status")]
    #[doc(alias = "delete_completed_tasks")]
    async fn settle(&self, settlements: &[Settlement], now: Timestamp) -> Result<SettleReport>;

    /// Extends the leases behind `tokens` to `until` and answers the tokens that are lost.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed.
    #[doc(alias = "heartbeat_at")]
    #[doc(alias = "is_active")]
    async fn extend(&self, tokens: &[LeaseToken], until: Timestamp) -> Result<Vec<LeaseToken>>;

    /// Ends every lease that `owner` holds; what it claimed and did not settle is claimable again.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed; the leases then end by themselves.
    async fn release(&self, owner: WorkerId) -> Result<()>;

    /// Resumes an ordering key that [`OnFailure::ParkKey`] parked; whether it was parked.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed.
    async fn resume_key(&self, ordering_key: &str) -> Result<bool>;

    /// Deletes up to `max` published messages that were settled before `before`, and idempotency
    /// keys of that age; answers how many messages went. Nothing else is ever purged.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed.
    async fn purge(&self, before: Timestamp, max: usize) -> Result<u64>;

    /// Counts what the outbox holds.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed.
    #[doc(alias = "GetStats")]
    async fn stats(&self, now: Timestamp) -> Result<OutboxStats>;

    /// The signal that something may have become claimable: given after each commit that appends,
    /// in this process or another.
    fn wake(&self) -> &Wake;
}
