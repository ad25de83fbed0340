use std::time::Duration;

use async_trait::async_trait;

use crate::delivery::{Delivery, Unreadable};
use crate::error::{PublishError, Result};
use crate::id::WorkerId;
use crate::lease::Receipt;
use crate::message::Message;
use crate::report::{QueueStats, SettleReport};
use crate::signal::Wake;
use crate::status::{AttemptRecord, Ordering};
use crate::time::Timestamp;

/// What became of one enqueued message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// It was added.
    Added,
    /// A message with its id was enqueued within the deduplication window; nothing was added.
    Duplicate,
}

/// Asks a queue for deliveries.
#[derive(Clone, Debug)]
pub struct DequeueRequest {
    /// Who asks: one incarnation of a worker.
    pub owner: WorkerId,
    /// The most deliveries to answer; at least 1.
    pub max: usize,
    /// How long the deliveries are leased unless they are extended.
    pub lease: Duration,
    /// How long to wait for the first delivery; zero answers at once.
    pub wait: Duration,
    /// The present moment, when the call is made.
    pub now: Timestamp,
}

/// Asks a queue for deliveries whose holder is gone.
#[derive(Clone, Debug)]
pub struct RecoverRequest {
    /// Who takes them over.
    pub owner: WorkerId,
    /// The most deliveries to answer; at least 1.
    pub max: usize,
    /// How long the deliveries are leased unless they are extended.
    pub lease: Duration,
    /// The present moment.
    pub now: Timestamp,
}

/// What a queue handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DequeueReport {
    /// The deliveries, in queue order.
    pub deliveries: Vec<Delivery>,
    /// Entries that could not be read; they were moved to quarantine.
    pub unreadable: Vec<Unreadable>,
    /// The next moment at which a live holder's lease may end, so that recovery need not poll;
    /// `None` where nobody else holds anything, or where the backend cannot tell.
    pub next_expiry: Option<Timestamp>,
    /// Whether nobody holds anything, the caller included, so that there is nothing to recover;
    /// `false` where the backend cannot tell.
    pub none_held: bool,
}

/// What became of one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliverySettlement {
    /// The proof that came with the delivery.
    pub receipt: Receipt,
    /// What became of it.
    pub outcome: DeliveryOutcome,
}

/// What is to become of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// It was handled: it leaves the queue.
    #[doc(alias = "acknowledge_tasks")]
    Done,
    /// It failed: deliver it again at `due_at`. Counts an attempt.
    Retry {
        /// When to deliver it again.
        due_at: Timestamp,
        /// What went wrong; travels with the entry.
        failure: AttemptRecord,
    },
    /// It was not tried (limited, breaker open, stopping): deliver it again at `due_at`. Counts no
    /// attempt.
    Delay {
        /// When to deliver it again.
        due_at: Timestamp,
    },
    /// It failed for the last time, or was rejected: move it to quarantine.
    Quarantine {
        /// What went wrong.
        failure: AttemptRecord,
    },
}

/// A broker stream read by one consumer group.
///
/// # Contract
/// - **enqueue** is idempotent by message id inside the deduplication window; nothing unread or
///   unsettled is ever trimmed; a full queue answers [`PublishError::Unavailable`] for what does not
///   fit, and names the time to ask again, at most
///   [`crate::error::FULL_RETRY`]. Where [`Queue::ordering`] is `PerKey` or `Commit`, no message is added after one of its
///   key that was not, in the same call.
/// - **dequeue** delivers what was enqueued before the first worker started, too; it waits on the
///   broker, not by polling; a delayed entry comes at its due time. Each entry is held by at most one
///   owner at a time. A malformed entry is quarantined by itself. Where the lease of another owner
///   ends, the wait ends as well, without a delivery, so that the caller recovers what is stuck.
/// - **settle** is fenced: a worker that lost a delivery cannot settle it for its new owner, and is
///   told. All settlements of a call take effect together. A delivery whose lease ended and that
///   nobody took over is still its holder's.
/// - **extend** only extends what the caller still holds, and tells the rest.
/// - **room**: where the queue has the signal, it is given once something has left the queue after
///   that refused a message for want of room.
/// - **`recover_stuck`** takes over entries whose lease has ended, all of them in the end: busy entries
///   hide none.
/// - The attempt number and the last failure travel with the entry, and so does the number of times
///   that it was taken over: each counts, a settled failure sets it back to 0, a delay leaves it.
///
/// # Cancel safety
/// A dropped `dequeue` or `recover_stuck` may have leased entries: they come back when their lease
/// ends.
#[async_trait]
#[doc(alias = "TaskQueueRepositoryInterface")]
pub trait Queue: Send + Sync {
    /// The queue's name, for metrics and failure records.
    fn name(&self) -> &str;

    /// The order that entries of a single consumer keep.
    fn ordering(&self) -> Ordering;

    /// The signal, in this process, that a queue which was full has room again; `None` where only
    /// asking again finds out.
    fn room(&self) -> Option<Wake> {
        None
    }

    /// Adds `messages`, one result each, in their order.
    #[doc(alias = "enqueue_tasks")]
    async fn enqueue(&self, messages: &[Message]) -> Vec<Result<Enqueued, PublishError>>;

    /// Hands out up to `request.max` entries, waiting up to `request.wait` for the first; less long
    /// where another's lease ends meanwhile, see [`DequeueReport::next_expiry`].
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the broker failed; nothing is lost by that.
    #[doc(alias = "dequeue_tasks")]
    async fn dequeue(&self, request: &DequeueRequest) -> Result<DequeueReport>;

    /// Records what became of deliveries, fenced by their receipts.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the broker failed; call it again with the same
    /// settlements, one that took effect already is told as lost.
    #[doc(alias = "acknowledge_tasks")]
    async fn settle(
        &self,
        settlements: &[DeliverySettlement],
        now: Timestamp,
    ) -> Result<SettleReport>;

    /// Extends the leases behind `receipts` by `lease` from `now` and answers those that are lost.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the broker failed.
    async fn extend(
        &self,
        receipts: &[Receipt],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Receipt>>;

    /// Takes over up to `request.max` entries whose lease has ended.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the broker failed.
    #[doc(alias = "recover_stuck_tasks")]
    async fn recover_stuck(&self, request: &RecoverRequest) -> Result<DequeueReport>;

    /// Counts what the queue holds.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the broker failed.
    #[doc(alias = "GetStats")]
    async fn stats(&self, now: Timestamp) -> Result<QueueStats>;
}
