//! Ports that fail as real ones do, driven by a seed.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::error::Transience;
use outbox_core::id::{Entropy, WorkerId};
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
use outbox_core::{OutboxError, PublishError, Result};

/// Decides by its seed what goes wrong, and remembers what happened.
pub(crate) struct Faults {
    entropy: Entropy,
    on: AtomicBool,
    enqueued: Mutex<Vec<String>>,
    trace: Mutex<DefaultHasher>,
}

impl Faults {
    pub(crate) fn new(entropy: Entropy) -> Self {
        Self {
            entropy,
            on: AtomicBool::new(true),
            enqueued: Mutex::default(),
            trace: Mutex::default(),
        }
    }

    pub(crate) fn are_on(&self) -> bool {
        self.on.load(SeqCst)
    }

    pub(crate) fn stop(&self) {
        self.on.store(false, SeqCst);
    }

    /// Whether a fault of this probability, in percent, strikes now.
    pub(crate) fn strikes(&self, percent: u64) -> bool {
        self.are_on() && self.entropy.next_u64() % 100 < percent
    }

    /// Waits as long as a call takes: mostly a moment, sometimes longer than any lease.
    pub(crate) async fn pause(&self) {
        let millis = match self.entropy.next_u64() % 100 {
            _ if !self.are_on() => 1,
            0 => self.entropy.next_u64() % 9_000,
            1..=10 => self.entropy.next_u64() % 700,
            _ => self.entropy.next_u64() % 5,
        };
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    /// Texts in the order in which the queue saw them first.
    pub(crate) fn first_enqueued(&self) -> Vec<String> {
        self.enqueued.lock().unwrap().clone()
    }

    /// A number that stands for everything that happened, and when.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.trace.lock().unwrap().finish()
    }

    fn note(&self, what: impl Hash) {
        what.hash(&mut *self.trace.lock().unwrap());
    }

    /// Makes one call: it may fail before its effect, or after it, or take its time.
    async fn call<T>(&self, operation: &'static str, call: impl Future<Output = T>) -> Result<T> {
        self.note(operation);
        self.pause().await;
        if self.strikes(4) {
            return Err(fault(operation));
        }
        let answer = call.await;
        self.pause().await;
        if self.strikes(4) {
            Err(fault(operation))
        } else {
            Ok(answer)
        }
    }
}

fn fault(operation: &'static str) -> OutboxError {
    OutboxError::Backend {
        backend: "simulated",
        operation,
        transience: Transience::Transient,
        source: "a simulated fault".into(),
    }
}

/// An outbox whose calls fail.
pub(crate) struct FaultyOutbox {
    inner: MemoryOutbox,
    faults: Arc<Faults>,
}

impl FaultyOutbox {
    pub(crate) fn new(inner: MemoryOutbox, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
impl Outbox for FaultyOutbox {
    async fn append(&self, messages: &[NewMessage]) -> Result<AppendReport> {
        self.faults
            .call("append", self.inner.append(messages))
            .await?
    }
    async fn claim(&self, request: &ClaimRequest) -> Result<ClaimReport> {
        self.faults.note(request.now);
        self.faults.call("claim", self.inner.claim(request)).await?
    }
    async fn settle(&self, all: &[Settlement], now: Timestamp) -> Result<SettleReport> {
        self.faults.note((all.len(), now));
        self.faults
            .call("settle", self.inner.settle(all, now))
            .await?
    }
    async fn extend(&self, all: &[LeaseToken], until: Timestamp) -> Result<Vec<LeaseToken>> {
        self.faults
            .call("extend", self.inner.extend(all, until))
            .await?
    }
    async fn release(&self, owner: WorkerId) -> Result<()> {
        self.faults
            .call("release", self.inner.release(owner))
            .await?
    }
    async fn resume_key(&self, key: &str) -> Result<bool> {
        self.inner.resume_key(key).await
    }
    async fn purge(&self, before: Timestamp, max: usize) -> Result<u64> {
        self.faults
            .call("purge", self.inner.purge(before, max))
            .await?
    }
    async fn stats(&self, now: Timestamp) -> Result<OutboxStats> {
        self.inner.stats(now).await
    }
    fn wake(&self) -> &Wake {
        self.inner.wake()
    }
}

/// A queue whose calls fail.
pub(crate) struct FaultyQueue {
    inner: MemoryQueue,
    faults: Arc<Faults>,
}

impl FaultyQueue {
    pub(crate) fn new(inner: MemoryQueue, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
impl Queue for FaultyQueue {
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
                    self.faults.note(&text);
                    self.faults.enqueued.lock().unwrap().push(text);
                }
            }
            results
        };
        match self.faults.call("enqueue", adding).await {
            Ok(results) => results,
            // The reply is lost: whether the messages are in the queue is not known.
            Err(_) => messages
                .iter()
                .map(|_| Err(PublishError::unavailable("a simulated fault")))
                .collect(),
        }
    }
    async fn dequeue(&self, request: &DequeueRequest) -> Result<DequeueReport> {
        self.faults
            .call("dequeue", self.inner.dequeue(request))
            .await?
    }
    async fn settle(&self, all: &[DeliverySettlement], now: Timestamp) -> Result<SettleReport> {
        self.faults
            .call("settle", self.inner.settle(all, now))
            .await?
    }
    async fn extend(
        &self,
        all: &[Receipt],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Receipt>> {
        self.faults
            .call("extend", self.inner.extend(all, lease, now))
            .await?
    }
    async fn recover_stuck(&self, request: &RecoverRequest) -> Result<DequeueReport> {
        self.faults
            .call("recover", self.inner.recover_stuck(request))
            .await?
    }
    async fn stats(&self, now: Timestamp) -> Result<QueueStats> {
        self.inner.stats(now).await
    }
}
