//! Memory stores on virtual time, and a heap that tells when it was looked at.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::error::{OutboxError, Result};
use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::memory::{MemoryOutbox, MemoryOutboxConfig};
use outbox_core::message::NewMessage;
use outbox_core::ports::{ClaimRequest, Clock, Outbox, Outcome, Settlement};
use outbox_core::report::ClaimReport;
use outbox_core::status::{AttemptRecord, OnFailure};
use outbox_core::time::{Timestamp, TokioClock};
use outbox_dlq::{
    DlqEntry, DlqHeap, DlqProcessor, DlqProcessorConfig, DrainRequest, Failure, Filter, HeapStats,
    MemoryDlqHeap, MemoryQuarantine, Operator, Origin, Page, Quarantine, Subject,
};
use tokio::time::Instant;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
const RELAY: WorkerId = WorkerId::from_bytes([1; 16]);
const LEASE: Duration = Duration::from_secs(100_000);

/// An outbox, its dead letters, and the heap that counts its failures.
pub(crate) struct World {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) outbox: MemoryOutbox,
    pub(crate) quarantine: MemoryQuarantine,
    pub(crate) heap: Arc<WatchedHeap>,
    began: Instant,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::starting_at(Timestamp::from_millis(
            1_800_000_000_000,
        )));
        let outbox = MemoryOutbox::new(MemoryOutboxConfig {
            clock: Arc::clone(&clock),
            entropy: Entropy::seeded(1),
            ..MemoryOutboxConfig::default()
        });
        Self {
            clock,
            quarantine: MemoryQuarantine::new().with_outbox(outbox.clone()),
            outbox,
            heap: Arc::default(),
            began: Instant::now(),
        }
    }

    pub(crate) fn processor(&self, config: DlqProcessorConfig) -> DlqProcessor {
        let heap = Arc::clone(&self.heap) as Arc<dyn DlqHeap>;
        let processor = DlqProcessor::new(heap, Arc::new(self.quarantine.clone()), config);
        processor.unwrap().driven_by(Arc::clone(&self.clock))
    }

    pub(crate) fn operator(&self) -> Operator {
        Operator::new(Arc::new(self.quarantine.clone()), "ada")
            .driven_by(Arc::clone(&self.clock), Entropy::seeded(2))
    }

    async fn take(&self, count: usize) -> ClaimReport {
        let messages = vec![NewMessage::new("t", "text"); count];
        self.outbox.append(&messages).await.unwrap();
        let request = ClaimRequest {
            owner: RELAY,
            max: count,
            lease: LEASE,
            now: self.clock.now(),
            paused_topics: Vec::new(),
        };
        self.outbox.claim(&request).await.unwrap()
    }

    async fn settle(&self, taken: &ClaimReport, outcome: impl Fn(AttemptRecord) -> Outcome) {
        let now = self.clock.now();
        let failure = AttemptRecord {
            at: now,
            duration: Duration::ZERO,
            kind: "failed".to_owned(),
            error: "no luck".to_owned(),
        };
        let settlements = taken.leased.iter().map(|leased| Settlement {
            token: leased.token,
            outcome: outcome(failure.clone()),
        });
        let settlements: Vec<_> = settlements.collect();
        let report = self.outbox.settle(&settlements, now).await.unwrap();
        assert!(report.lost.is_empty());
        self.outbox.release(RELAY).await.unwrap();
    }

    /// Messages that failed and wait for their next attempt, in a day.
    pub(crate) async fn failed(&self, count: usize) -> Vec<MessageId> {
        let taken = self.take(count).await;
        let due_at = self.clock.now() + 86_400 * SECOND;
        let on_failure = OnFailure::BlockKey;
        let retry = |failure| Outcome::Retry {
            due_at,
            failure,
            on_failure,
        };
        self.settle(&taken, retry).await;
        taken
            .leased
            .iter()
            .map(|leased| leased.message.id)
            .collect()
    }

    /// Messages that a relay has in its hands.
    pub(crate) async fn claimed(&self, count: usize) -> Vec<MessageId> {
        let taken = self.take(count).await;
        taken
            .leased
            .iter()
            .map(|leased| leased.message.id)
            .collect()
    }

    /// The relay stops: what it has in its hands is nobody's any more.
    pub(crate) async fn stop(&self) {
        self.outbox.release(RELAY).await.unwrap();
    }

    pub(crate) async fn heap_stats(&self) -> HeapStats {
        self.heap.stats(self.clock.now()).await.unwrap()
    }

    /// Messages that rest in quarantine.
    pub(crate) async fn buried(&self, count: usize) {
        let taken = self.take(count).await;
        let on_failure = OnFailure::BlockKey;
        let bury = |failure| Outcome::Quarantine {
            failure,
            on_failure,
        };
        self.settle(&taken, bury).await;
        assert_eq!(self.resting().await, count);
    }

    /// Counts failures of each of `ids`.
    pub(crate) async fn count(&self, ids: &[MessageId], times: usize) {
        let failure = |id: &MessageId| Failure {
            subject: Subject {
                origin: Origin::Outbox,
                id: *id,
            },
            at: self.clock.now(),
            kind: "failed".to_owned(),
            error: "no luck".to_owned(),
        };
        for _ in 0..times {
            let failures: Vec<_> = ids.iter().map(failure).collect();
            self.heap.record_failures(&failures).await.unwrap();
        }
    }

    /// How many dead letters there are.
    pub(crate) async fn resting(&self) -> usize {
        let page = Page::first(100_000);
        let listing = self.quarantine.list(&Filter::default(), page).await;
        listing.unwrap().letters.len()
    }

    /// How long ago all this began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits until so long after the beginning.
    pub(crate) async fn until(&self, seconds: f64) {
        tokio::time::sleep_until(self.began + Duration::from_secs_f64(seconds)).await;
    }

    /// When the heap was looked at, in seconds since the beginning.
    pub(crate) fn looks(&self) -> Vec<f64> {
        let looks = self.heap.looks.lock().unwrap();
        let since = |look: &Instant| look.duration_since(self.began).as_secs_f64();
        looks.iter().map(since).collect()
    }
}

/// A heap in memory that tells when it was looked at, fails on order, and may take its time.
#[derive(Default)]
pub(crate) struct WatchedHeap {
    inner: MemoryDlqHeap,
    looks: Mutex<Vec<Instant>>,
    /// What the next looks end with.
    pub(crate) errors: Mutex<VecDeque<OutboxError>>,
    /// How long confirming takes.
    pub(crate) confirming: Mutex<Duration>,
}

impl WatchedHeap {
    /// The next `times` looks fail.
    pub(crate) fn fail(&self, times: usize) {
        let error = || OutboxError::Backend {
            backend: "memory",
            operation: "drain",
            transience: outbox_core::error::Transience::Transient,
            source: "no luck".into(),
        };
        let mut errors = self.errors.lock().unwrap();
        errors.extend(std::iter::repeat_with(error).take(times));
    }
}

#[async_trait]
impl DlqHeap for WatchedHeap {
    async fn record_failures(&self, failures: &[Failure]) -> Result<()> {
        self.inner.record_failures(failures).await
    }

    async fn record_successes(&self, subjects: &[Subject]) -> Result<()> {
        self.inner.record_successes(subjects).await
    }

    async fn drain_exceeded(&self, request: &DrainRequest) -> Result<Vec<DlqEntry>> {
        self.looks.lock().unwrap().push(Instant::now());
        let error = self.errors.lock().unwrap().pop_front();
        match error {
            Some(error) => Err(error),
            None => self.inner.drain_exceeded(request).await,
        }
    }

    async fn confirm(&self, drained: &[DlqEntry]) -> Result<u64> {
        let confirming = *self.confirming.lock().unwrap();
        tokio::time::sleep(confirming).await;
        self.inner.confirm(drained).await
    }

    async fn release(&self, drained: &[DlqEntry]) -> Result<u64> {
        self.inner.release(drained).await
    }

    async fn purge(&self, before: Timestamp, max: usize, now: Timestamp) -> Result<u64> {
        self.inner.purge(before, max, now).await
    }

    async fn stats(&self, now: Timestamp) -> Result<HeapStats> {
        self.inner.stats(now).await
    }
}
