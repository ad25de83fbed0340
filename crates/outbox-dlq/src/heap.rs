use std::time::Duration;

use async_trait::async_trait;
use outbox_core::error::Result;
use outbox_core::time::Timestamp;

use crate::origin::Subject;

/// One failed attempt, as a heap counts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What failed.
    pub subject: Subject,
    /// When it was found to have failed.
    pub at: Timestamp,
    /// A short stable word for what went wrong, as `failed`.
    pub kind: String,
    /// The error's text, cut to [`outbox_core::status::ERROR_TEXT_BYTES`].
    pub error: String,
}

/// What a heap knows of a message that fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DlqEntry {
    /// What fails.
    pub subject: Subject,
    /// How many failures were recorded.
    #[doc(alias = "failure_count")]
    pub failures: u32,
    /// When the first of them was.
    pub first_failed_at: Timestamp,
    /// When the last of them was.
    pub last_failed_at: Timestamp,
    /// The last one's kind.
    pub kind: String,
    /// The last one's text.
    pub error: String,
    /// Proof that it was drained: differs each time it is.
    pub claim: u64,
}

/// Asks a heap for what failed too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainRequest {
    /// How many failures are too many; at least 1.
    pub threshold: u32,
    /// What has been failing since before this moment is drained too, whatever its count.
    pub failing_since: Option<Timestamp>,
    /// The most entries to answer; at least 1.
    pub max: usize,
    /// How long the drained entries are claimed.
    pub lease: Duration,
    /// The present moment.
    pub now: Timestamp,
}

/// The state of a heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapStats {
    /// Messages that fail.
    pub entries: u64,
    /// Those of them that are drained and not confirmed, at the moment asked for.
    pub claimed: u64,
    /// When the first failure was of what has been failing for the longest.
    pub oldest: Option<Timestamp>,
}

/// Counts failures of messages, and hands out those that failed too often.
///
/// # Contract
/// - **record**: a failure adds one to its subject's count, and its kind and text replace the last
///   ones; a success forgets the subject, drained or not. Any number of callers may record at once,
///   and no failure is counted twice or not at all. What a call records takes effect as a whole.
/// - **drain**: answers what has `threshold` failures or more, those with the most failures first, and
///   what has been failing since before `failing_since`. Each is *claimed*: no other drain answers it
///   until the claim is released or `lease` is over. So an entry is forgotten only once its quarantine
///   is confirmed, and a crash in between brings it back.
/// - **confirm** and **release** are fenced by the claim: one that is over and was drained anew
///   changes nothing.
/// - Failures of a claimed entry are counted on.
///
/// # Cancel safety
/// As for all ports: a dropped call took effect or did not. What a dropped drain has claimed comes back
/// when the lease is over.
#[async_trait]
pub trait DlqHeap: Send + Sync {
    /// Counts one failure.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed; then nothing was counted, or that
    /// is unknown.
    async fn record_failure(&self, failure: &Failure) -> Result<()> {
        self.record_failures(std::slice::from_ref(failure)).await
    }

    /// Forgets one subject: it succeeded, or is in quarantine.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed.
    async fn record_success(&self, subject: &Subject) -> Result<()> {
        self.record_successes(std::slice::from_ref(subject)).await
    }

    /// Counts `failures`, all in one step.
    ///
    /// # Errors
    /// As [`DlqHeap::record_failure`].
    async fn record_failures(&self, failures: &[Failure]) -> Result<()>;

    /// Forgets `subjects`, all in one step; those that are not known are none of its business.
    ///
    /// # Errors
    /// As [`DlqHeap::record_success`].
    async fn record_successes(&self, subjects: &[Subject]) -> Result<()>;

    /// Claims up to `request.max` entries that failed too often, and answers them.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed; what was claimed by then comes
    /// back.
    async fn drain_exceeded(&self, request: &DrainRequest) -> Result<Vec<DlqEntry>>;

    /// Forgets drained entries, whose message is in quarantine, or gone; answers how many were still
    /// the caller's.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed; call it again.
    async fn confirm(&self, drained: &[DlqEntry]) -> Result<u64>;

    /// Gives drained entries back, so that the next drain may answer them; answers how many were still
    /// the caller's.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed; they come back by themselves.
    async fn release(&self, drained: &[DlqEntry]) -> Result<u64>;

    /// Forgets up to `max` entries whose last failure was before `before` and that nobody has claimed
    /// at `now`: of messages that went another way. Answers how many. Only counts are lost by it.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed.
    async fn purge(&self, before: Timestamp, max: usize, now: Timestamp) -> Result<u64>;

    /// Counts what the heap holds.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed.
    async fn stats(&self, now: Timestamp) -> Result<HeapStats>;
}
