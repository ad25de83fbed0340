//! Memory ports that pause before and after each effect, so that there is an await to die at.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::id::WorkerId;
use outbox_core::lease::{LeaseToken, Receipt};
use outbox_core::memory::{MemoryOutbox, MemoryQueue};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{
    ClaimRequest, DeliverySettlement, DequeueReport, DequeueRequest, Enqueued, Outbox, Queue,
    RecoverRequest, Settlement,
};
use outbox_core::report::{AppendReport, ClaimReport, OutboxStats, QueueStats, SettleReport};
use outbox_core::signal::Wake;
use outbox_core::status::Ordering;
use outbox_core::time::Timestamp;
use outbox_core::{PublishError, Result};

/// How calls take their time, and what was enqueued by them.
#[derive(Default)]
pub(crate) struct Pace {
    enqueued: Mutex<Vec<String>>,
}

impl Pace {
    pub(crate) async fn pause(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// Texts in the order in which the queue took them.
    pub(crate) fn enqueued(&self) -> Vec<String> {
        self.enqueued.lock().unwrap().clone()
    }

    async fn call<T>(&self, call: impl Future<Output = T>) -> T {
        self.pause().await;
        let answer = call.await;
        self.pause().await;
        answer
    }
}

/// An outbox that takes its time.
pub(crate) struct PacedOutbox {
    inner: MemoryOutbox,
    pace: Arc<Pace>,
}

impl PacedOutbox {
    pub(crate) fn new(inner: MemoryOutbox, pace: Arc<Pace>) -> Self {
        Self { inner, pace }
    }
}

#[async_trait]
impl Outbox for PacedOutbox {
    async fn append(&self, messages: &[NewMessage]) -> Result<AppendReport> {
        self.pace.call(self.inner.append(messages)).await
    }
    async fn claim(&self, request: &ClaimRequest) -> Result<ClaimReport> {
        self.pace.call(self.inner.claim(request)).await
    }
    async fn settle(&self, all: &[Settlement], now: Timestamp) -> Result<SettleReport> {
        self.pace.call(self.inner.settle(all, now)).await
    }
    async fn extend(&self, all: &[LeaseToken], until: Timestamp) -> Result<Vec<LeaseToken>> {
        self.pace.call(self.inner.extend(all, until)).await
    }
    async fn release(&self, owner: WorkerId) -> Result<()> {
        self.pace.call(self.inner.release(owner)).await
    }
    async fn resume_key(&self, key: &str) -> Result<bool> {
        self.inner.resume_key(key).await
    }
    async fn purge(&self, before: Timestamp, max: usize) -> Result<u64> {
        self.pace.call(self.inner.purge(before, max)).await
    }
    async fn stats(&self, now: Timestamp) -> Result<OutboxStats> {
        self.inner.stats(now).await
    }
    fn wake(&self) -> &Wake {
        self.inner.wake()
    }
}

/// A queue that takes its time.
pub(crate) struct PacedQueue {
    inner: MemoryQueue,
    pace: Arc<Pace>,
}

impl PacedQueue {
    pub(crate) fn new(inner: MemoryQueue, pace: Arc<Pace>) -> Self {
        Self { inner, pace }
    }
}

#[async_trait]
impl Queue for PacedQueue {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn ordering(&self) -> Ordering {
        self.inner.ordering()
    }
    async fn enqueue(&self, messages: &[Message]) -> Vec<Result<Enqueued, PublishError>> {
        let adding = async {
            let results = self.inner.enqueue(messages).await;
            for (message, result) in messages.iter().zip(&results) {
                if matches!(result, Ok(Enqueued::Added)) {
                    let text = String::from_utf8(message.payload.to_vec()).unwrap();
                    self.pace.enqueued.lock().unwrap().push(text);
                }
            }
            results
        };
        self.pace.call(adding).await
    }
    async fn dequeue(&self, request: &DequeueRequest) -> Result<DequeueReport> {
        self.pace.call(self.inner.dequeue(request)).await
    }
    async fn settle(&self, all: &[DeliverySettlement], now: Timestamp) -> Result<SettleReport> {
        self.pace.call(self.inner.settle(all, now)).await
    }
    async fn extend(
        &self,
        all: &[Receipt],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Receipt>> {
        self.pace.call(self.inner.extend(all, lease, now)).await
    }
    async fn recover_stuck(&self, request: &RecoverRequest) -> Result<DequeueReport> {
        self.pace.call(self.inner.recover_stuck(request)).await
    }
    async fn stats(&self, now: Timestamp) -> Result<QueueStats> {
        self.inner.stats(now).await
    }
}
