use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use super::Removal;
use super::entries::{Entries, Holder};
use crate::delivery::Quarantined;
use crate::error::{PublishError, Result};
use crate::id::MessageId;
use crate::lease::Receipt;
use crate::message::Message;
use crate::ports::{
    DeliveryOutcome, DeliverySettlement, DequeueReport, DequeueRequest, Enqueued, Queue,
    RecoverRequest,
};
use crate::report::{QueueStats, SettleReport};
use crate::signal::Wake;
use crate::status::Ordering;
use crate::time::{Clock, Timestamp};

/// The shortest wait of a caller that does not recover what he was told is stuck.
const BREATH: Duration = Duration::from_millis(50);

/// How a [`MemoryQueue`] behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryQueueConfig {
    /// The queue's name in metrics and failure records; `memory` by default.
    pub name: String,
    /// How long an id that was enqueued is remembered, so that enqueuing it again adds nothing;
    /// 24 h by default.
    pub dedup_window: Duration,
    /// The most unsettled entries, those in flight and delayed among them; what is over it is
    /// answered [`PublishError::Unavailable`]. 1,000,000 by default.
    pub high_water: usize,
}

impl Default for MemoryQueueConfig {
    fn default() -> Self {
        Self {
            name: "memory".to_owned(),
            dedup_window: Duration::from_secs(24 * 60 * 60),
            high_water: 1_000_000,
        }
    }
}

/// A queue in this process' memory, shared by cloning.
///
/// An entry that was delayed comes back to its old place. Moments in settlements and requests are
/// compared with `now` of the requests only; the clock tells when a message was enqueued.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use outbox_core::memory::{MemoryQueue, MemoryQueueConfig};
/// use outbox_core::ports::Queue;
/// use outbox_core::time::{Clock, SystemClock};
/// use std::sync::Arc;
///
/// let queue = MemoryQueue::new(MemoryQueueConfig::default(), Arc::new(SystemClock));
/// assert_eq!(queue.stats(SystemClock.now()).await.unwrap().depth(), 0);
/// # });
/// ```
#[derive(Clone)]
pub struct MemoryQueue(Arc<Shared>);

struct Shared {
    config: MemoryQueueConfig,
    clock: Arc<dyn Clock>,
    entries: Mutex<Entries>,
    wake: Wake,
    room: Wake,
}

/// Why a message did not fit.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the queue holds {depth} unsettled entries, its high-water mark is {high_water}")]
struct Full {
    depth: usize,
    high_water: usize,
}

impl MemoryQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(config: MemoryQueueConfig, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared {
            config,
            clock,
            entries: Mutex::default(),
            wake: Wake::new(),
            room: Wake::new(),
        }))
    }

    /// What is in quarantine, oldest first.
    #[must_use]
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.with(|entries| entries.quarantined())
    }

    /// Damages the unsettled entry of the message with this id, as a broken disk would; whether
    /// there is one.
    pub fn corrupt(&self, id: MessageId) -> bool {
        self.with(|entries| entries.damage(id))
    }

    /// Takes an unsettled entry out, unless somebody has it; the caller has it then, and it is in no
    /// quarantine.
    #[must_use]
    pub fn take_out(&self, id: MessageId) -> Removal {
        self.with(|entries| entries.take_out(id))
    }

    /// Takes everything out of quarantine, oldest first.
    #[must_use]
    pub fn take_quarantined(&self) -> Vec<Quarantined> {
        self.with(Entries::take_quarantined)
    }

    /// Whether [`MemoryQueue::put_back`] would put an entry of this message back.
    #[must_use]
    pub fn lacks(&self, id: MessageId) -> bool {
        self.with(|entries| entries.lacks(id))
    }

    /// Whether one more entry fits below the high-water mark.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.with(|entries| entries.depth() < self.0.config.high_water)
    }

    /// Puts an entry back that came out of quarantine: at its old place, or at the end where its
    /// place is none of this queue. It keeps its attempts and history. Whether it did: not where its
    /// message is there already, or where nobody can read it.
    #[must_use]
    pub fn put_back(&self, resting: Quarantined, now: Timestamp) -> bool {
        let put = self.with(|entries| entries.put_back(resting, now));
        self.0.wake.notify();
        put
    }

    fn with<T>(&self, work: impl FnOnce(&mut Entries) -> T) -> T {
        let entries = self.0.entries.lock();
        let mut entries = entries.unwrap_or_else(PoisonError::into_inner);
        let answer = work(&mut entries);
        if entries.take_room() {
            self.0.room.notify();
        }
        answer
    }

    fn add(
        &self,
        entries: &mut Entries,
        message: &Message,
        now: Timestamp,
    ) -> Result<Enqueued, PublishError> {
        let MemoryQueueConfig {
            dedup_window,
            high_water,
            ..
        } = self.0.config;
        if entries.remembers(message.id, dedup_window, now) {
            return Ok(Enqueued::Duplicate);
        }
        let depth = entries.depth();
        if depth >= high_water {
            entries.note_full();
            return Err(PublishError::full(Full { depth, high_water }));
        }
        entries.add(message, now);
        Ok(Enqueued::Added)
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    fn name(&self) -> &str {
        &self.0.config.name
    }

    fn ordering(&self) -> Ordering {
        Ordering::Commit
    }

    fn room(&self) -> Option<Wake> {
        Some(self.0.room.clone())
    }

    async fn enqueue(&self, messages: &[Message]) -> Vec<Result<Enqueued, PublishError>> {
        let now = self.0.clock.now();
        let add = |entries: &mut Entries| {
            let results = messages.iter();
            let results = results.map(|message| self.add(entries, message, now));
            results.collect()
        };
        let results = self.with(add);
        self.0.wake.notify();
        results
    }

    async fn dequeue(&self, request: &DequeueRequest) -> Result<DequeueReport> {
        let mut changes = self.0.wake.listen();
        let started = Instant::now();
        // The first look is at the moment that the caller names, however slow this machine is.
        let mut waited = Duration::ZERO;
        loop {
            changes.mark_seen();
            let now = request.now + waited;
            let holder = Holder {
                owner: request.owner,
                until: now + request.lease,
            };
            let (report, next_due) = self.with(|entries| {
                let report = entries.take(request.max, holder, now);
                (report, entries.next_due())
            });
            let found = !report.deliveries.is_empty() || !report.unreadable.is_empty();
            if found {
                // Those who wait are to know when this lease ends.
                self.0.wake.notify();
            }
            let stuck = report.next_expiry.is_some_and(|end| end <= now);
            if found || waited >= request.wait || (stuck && waited >= BREATH) {
                return Ok(report);
            }
            let ends = report.next_expiry.map(|end| end.since(now).max(BREATH));
            let due = next_due.map(|due| due.since(now));
            let pause = ends.into_iter().chain(due).min();
            let rest = request.wait - waited;
            let pause = pause.map_or(rest, |pause| pause.min(rest));
            // Either end of the pause means the same: look again.
            timeout(pause, changes.notified()).await.ok();
            waited = started.elapsed();
        }
    }

    async fn settle(
        &self,
        settlements: &[DeliverySettlement],
        _now: Timestamp,
    ) -> Result<SettleReport> {
        let report = self.with(|entries| entries.settle(settlements));
        let comes_back = |settlement: &DeliverySettlement| {
            let outcome = &settlement.outcome;
            matches!(
                outcome,
                DeliveryOutcome::Retry { .. } | DeliveryOutcome::Delay { .. }
            )
        };
        if settlements.iter().any(comes_back) {
            self.0.wake.notify();
        }
        Ok(report)
    }

    async fn extend(
        &self,
        receipts: &[Receipt],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Receipt>> {
        Ok(self.with(|entries| entries.extend(receipts, now + lease)))
    }

    async fn recover_stuck(&self, request: &RecoverRequest) -> Result<DequeueReport> {
        let holder = Holder {
            owner: request.owner,
            until: request.now + request.lease,
        };
        Ok(self.with(|entries| entries.take_over(request.max, holder, request.now)))
    }

    async fn stats(&self, now: Timestamp) -> Result<QueueStats> {
        Ok(self.with(|entries| entries.stats(now)))
    }
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueue")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
