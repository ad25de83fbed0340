use std::sync::Arc;
use std::time::Duration;

use super::harness::{QueueHarness, QueueSetup, QueueStore};
use crate::delivery::Delivery;
use crate::error::{BoxError, Result};
use crate::id::{MessageId, WorkerId};
use crate::lease::Receipt;
use crate::message::{Message, NewMessage};
use crate::ports::{
    DeliveryOutcome, DeliverySettlement, DequeueReport, DequeueRequest, Enqueued, Queue,
    RecoverRequest,
};
use crate::report::SettleReport;
use crate::status::AttemptRecord;
use crate::time::{ManualClock, Timestamp};

/// When every case begins.
pub(super) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// How long every lease lasts.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// How long an enqueued id is remembered.
pub(super) const WINDOW: Duration = Duration::from_secs(3_600);

/// The worker that most cases work with.
pub(super) const WORKER: WorkerId = WorkerId::from_bytes([1; 16]);

/// Another worker.
pub(super) const RIVAL: WorkerId = WorkerId::from_bytes([2; 16]);

/// A fresh queue with one handle on it.
pub(super) struct Scene {
    pub(super) store: Box<dyn QueueStore>,
    pub(super) queue: Arc<dyn Queue>,
    pub(super) clock: Arc<ManualClock>,
}

impl Scene {
    /// A queue that no case fills.
    pub(super) async fn new(harness: &dyn QueueHarness) -> Result<Self, BoxError> {
        Self::with_high_water(harness, 100_000).await
    }

    pub(super) async fn with_high_water(
        harness: &dyn QueueHarness,
        high_water: usize,
    ) -> Result<Self, BoxError> {
        let clock = Arc::new(ManualClock::at(START));
        let setup = QueueSetup {
            high_water,
            dedup_window: WINDOW,
            clock: Arc::clone(&clock) as _,
        };
        let store = harness.fresh(setup).await?;
        let queue = store.open().await?;
        Ok(Self {
            store,
            queue,
            clock,
        })
    }

    /// A fresh queue with the messages of these numbers in it.
    pub(super) async fn holding(
        harness: &dyn QueueHarness,
        numbers: std::ops::Range<u64>,
    ) -> Result<Self, BoxError> {
        let scene = Self::new(harness).await?;
        scene.enqueue(&messages(numbers)).await?;
        Ok(scene)
    }

    /// Enqueues messages that are all to be taken; what became of each.
    pub(super) async fn enqueue(&self, messages: &[Message]) -> Result<Vec<Enqueued>, BoxError> {
        let results = self.queue.enqueue(messages).await;
        assert_eq!(results.len(), messages.len(), "one result for each message");
        let results: Result<Vec<_>, _> = results.into_iter().collect();
        Ok(results?)
    }

    /// What `owner` is given at `now`, without waiting.
    pub(super) async fn dequeue(
        &self,
        owner: WorkerId,
        max: usize,
        now: Timestamp,
    ) -> Result<Vec<Delivery>> {
        let report = self.queue.dequeue(&request(owner, max, now)).await?;
        assert_eq!(report.unreadable, [], "nothing here is malformed");
        Ok(report.deliveries)
    }

    /// All that `owner` is given at `now`, in as many calls as that takes.
    pub(super) async fn drain(&self, owner: WorkerId, now: Timestamp) -> Result<Vec<Delivery>> {
        let mut all = Vec::new();
        loop {
            let deliveries = self.dequeue(owner, 500, now).await?;
            if deliveries.is_empty() {
                return Ok(all);
            }
            all.extend(deliveries);
        }
    }

    /// The only delivery that [`WORKER`] is given at `now`.
    pub(super) async fn dequeue_one(&self, now: Timestamp) -> Result<Delivery, BoxError> {
        only(self.dequeue(WORKER, 10, now).await?)
    }

    /// What `owner` takes over at `now`.
    pub(super) async fn recover(
        &self,
        owner: WorkerId,
        max: usize,
        now: Timestamp,
    ) -> Result<DequeueReport> {
        let request = RecoverRequest {
            owner,
            max,
            lease: LEASE,
            now,
        };
        self.queue.recover_stuck(&request).await
    }

    /// Settles one delivery; whether that took effect.
    pub(super) async fn settle(
        &self,
        receipt: Receipt,
        outcome: DeliveryOutcome,
        now: Timestamp,
    ) -> Result<bool> {
        let settlement = DeliverySettlement { receipt, outcome };
        let report = self.queue.settle(&[settlement], now).await?;
        assert_eq!(report.settled + report.lost.len() as u64, 1, "{report:?}");
        Ok(report.settled == 1)
    }

    /// Settles all of `deliveries` as done.
    pub(super) async fn done(
        &self,
        deliveries: &[Delivery],
        now: Timestamp,
    ) -> Result<SettleReport> {
        let settlements: Vec<_> = deliveries.iter().map(done).collect();
        self.queue.settle(&settlements, now).await
    }

    /// Whether the queue has nothing more to give, now or ever.
    pub(super) async fn is_empty(&self) -> Result<bool> {
        Ok(self.queue.stats(START).await?.depth() == 0)
    }
}

/// A request that answers at once.
pub(super) fn request(owner: WorkerId, max: usize, now: Timestamp) -> DequeueRequest {
    DequeueRequest {
        owner,
        max,
        lease: LEASE,
        wait: Duration::ZERO,
        now,
    }
}

/// The message of this number: its id and its payload tell which.
pub(super) fn message(number: u64) -> Message {
    let new = NewMessage::new("tasks", number.to_string());
    Message::appended(&new, id(number), START)
}

pub(super) fn messages(numbers: std::ops::Range<u64>) -> Vec<Message> {
    numbers.map(message).collect()
}

/// The id of the message of this number.
pub(super) fn id(number: u64) -> MessageId {
    let mut bytes = [7; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    MessageId::from_bytes(bytes)
}

/// The ids of `deliveries`, in their order.
pub(super) fn ids(deliveries: &[Delivery]) -> Vec<MessageId> {
    deliveries.iter().map(|d| d.message.id).collect()
}

/// The ids of `deliveries`, sorted: what was delivered, in whatever order.
pub(super) fn sorted_ids(deliveries: &[Delivery]) -> Vec<MessageId> {
    let mut ids = ids(deliveries);
    ids.sort_unstable();
    ids
}

/// The ids of the messages of these numbers.
pub(super) fn id_range(numbers: std::ops::Range<u64>) -> Vec<MessageId> {
    numbers.map(id).collect()
}

/// The settlement of a delivery that was handled.
pub(super) fn done(delivery: &Delivery) -> DeliverySettlement {
    DeliverySettlement {
        receipt: delivery.receipt,
        outcome: DeliveryOutcome::Done,
    }
}

/// A failed attempt that began at `at`.
pub(super) fn failure(at: Timestamp, error: &str) -> AttemptRecord {
    AttemptRecord {
        at,
        duration: Duration::from_millis(12),
        kind: "retry".to_owned(),
        error: error.to_owned(),
    }
}

/// The outcome of a delivery that failed at `at` and is to come again at `due_at`.
pub(super) fn retry(at: Timestamp, error: &str, due_at: Timestamp) -> DeliveryOutcome {
    DeliveryOutcome::Retry {
        due_at,
        failure: failure(at, error),
    }
}

/// The only one of `items`.
pub(super) fn only<T: std::fmt::Debug>(mut items: Vec<T>) -> Result<T, BoxError> {
    match items.pop() {
        Some(item) if items.is_empty() => Ok(item),
        last => Err(format!("exactly one was expected: {items:?} and {last:?}").into()),
    }
}
