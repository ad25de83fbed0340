//! Stores that are a round trip away are asked for many deliveries at once.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use crate::fixture::text;
use crate::stage::{Recorder, Stage};
use async_trait::async_trait;
use outbox_core::consume::{Consumer, ConsumerConfig, WorkerConfig};
use outbox_core::error::Result;
use outbox_core::id::MessageId;
use outbox_core::memory::MemoryDeduplicationCache;
use outbox_core::ports::{Claim, ClaimToken, DeduplicationCache, RateDecision, RateLimiter};
use outbox_core::signal::Shutdown;
use outbox_core::time::Timestamp;

/// How far away the stores are.
const ROUND_TRIP: Duration = Duration::from_millis(1);

/// A cache and a limiter that note how many each call was about.
#[derive(Default)]
struct Far {
    cache: MemoryDeduplicationCache,
    claims: Mutex<Vec<usize>>,
    completions: Mutex<Vec<usize>>,
    permits: Mutex<Vec<usize>>,
    /// Whether the next claim leaves an id unanswered.
    forgetful: AtomicBool,
}

async fn note(calls: &Mutex<Vec<usize>>, count: usize) {
    tokio::time::sleep(ROUND_TRIP).await;
    calls.lock().unwrap().push(count);
}

#[async_trait]
impl DeduplicationCache for Far {
    async fn claim(
        &self,
        ids: &[MessageId],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Claim>> {
        note(&self.claims, ids.len()).await;
        let mut claims = self.cache.claim(ids, lease, now).await?;
        if self.forgetful.swap(false, SeqCst) {
            claims.pop();
        }
        Ok(claims)
    }

    async fn complete(
        &self,
        claims: &[(MessageId, ClaimToken)],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Vec<bool>> {
        note(&self.completions, claims.len()).await;
        self.cache.complete(claims, ttl, now).await
    }

    async fn extend(
        &self,
        claims: &[(MessageId, ClaimToken)],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<bool>> {
        self.cache.extend(claims, lease, now).await
    }

    async fn release(
        &self,
        claims: &[(MessageId, ClaimToken)],
        now: Timestamp,
    ) -> Result<Vec<bool>> {
        self.cache.release(claims, now).await
    }

    async fn is_processed(&self, id: MessageId, now: Timestamp) -> Result<bool> {
        self.cache.is_processed(id, now).await
    }

    async fn record_processed(&self, id: MessageId, ttl: Duration, now: Timestamp) -> Result<bool> {
        self.cache.record_processed(id, ttl, now).await
    }

    async fn purge(&self, now: Timestamp, max: usize) -> Result<u64> {
        self.cache.purge(now, max).await
    }
}

#[async_trait]
impl RateLimiter for Far {
    async fn allow_request(&self, permits: u32, _now: Timestamp) -> Result<RateDecision> {
        note(&self.permits, usize::try_from(permits).unwrap()).await;
        Ok(RateDecision::Allowed { remaining: 1 })
    }

    async fn refund(&self, _permits: u32, _taken_at: Timestamp, _now: Timestamp) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn claims_permits_and_completions_are_asked_for_in_batches() {
    let stage = Stage::new(23);
    stage
        .enqueue(&(0..1_000).map(text).collect::<Vec<_>>())
        .await;
    let far = Arc::new(Far::default());
    let recorder = Recorder::new(10 * ROUND_TRIP, |_| Ok(()));
    let consumer = Consumer::new(recorder.clone(), ConsumerConfig::default())
        .dedup(Arc::clone(&far) as _)
        .limiter(Arc::clone(&far) as _);
    let config = WorkerConfig {
        concurrency: 100,
        prefetch: 400,
        ..WorkerConfig::default()
    };
    let worker = stage.worker(consumer, config);
    let report = worker.run_until_empty(&Shutdown::new()).await.unwrap();
    assert_eq!(report.tally.done, 1_000);
    for (what, calls) in [
        ("claims", &far.claims),
        ("permits", &far.permits),
        ("completions", &far.completions),
    ] {
        let calls = calls.lock().unwrap();
        assert_eq!(calls.iter().sum::<usize>(), 1_000, "{what}");
        // Ten waves of a hundred, each in two calls at most: a task does not look at more than half
        // of them before it lets others go on.
        assert!(calls.len() <= 21, "{what}: {calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_the_cache_leaves_unanswered_comes_again() {
    let stage = Stage::new(24);
    stage.enqueue(&(0..10).map(text).collect::<Vec<_>>()).await;
    let far = Arc::new(Far::default());
    far.forgetful.store(true, SeqCst);
    let recorder = Recorder::healthy();
    let consumer = Consumer::new(recorder.clone(), ConsumerConfig::default());
    let drained = stage.drain(consumer.dedup(far as _));
    let drained = tokio::time::timeout(Duration::from_secs(60), drained).await;
    assert_eq!(drained.unwrap().tally.done, 10);
}
