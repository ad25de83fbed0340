//! A worker is handed again what it still has: its lease ended, and it was the one that looked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::consume::{Worker, WorkerConfig};
use outbox_core::error::{HandlerError, OutboxError, PublishError, Result, Transience};
use outbox_core::id::WorkerId;
use outbox_core::lease::Receipt;
use outbox_core::memory::MemoryQueue;
use outbox_core::message::Message;
use outbox_core::ports::{
    DeliverySettlement, DequeueReport, DequeueRequest, Enqueued, Queue, RecoverRequest,
};
use outbox_core::report::{QueueStats, SettleReport};
use outbox_core::signal::Shutdown;
use outbox_core::status::Ordering;
use outbox_core::time::Timestamp;

use crate::fixture::{Patient, SECOND, text};
use crate::stage::{Recorder, Stage, plain};

/// A queue that no heartbeat reaches, and at times no settlement.
pub(crate) struct Deaf {
    pub(crate) inner: MemoryQueue,
    pub(crate) to_settlements: Arc<AtomicBool>,
    /// After which time a heartbeat arrives all the same.
    pub(crate) hears_after: Option<Duration>,
    /// Whether it settles without a word, and gives nothing by itself.
    pub(crate) mute: Arc<AtomicBool>,
    /// How often it was asked for what is stuck.
    pub(crate) recoveries: Arc<AtomicU32>,
}

fn deaf<T>(operation: &'static str) -> Result<T> {
    Err(OutboxError::Backend {
        backend: "deaf",
        operation,
        transience: Transience::Transient,
        source: "not heard".into(),
    })
}

#[async_trait]
impl Queue for Deaf {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn ordering(&self) -> Ordering {
        self.inner.ordering()
    }
    async fn enqueue(&self, messages: &[Message]) -> Vec<Result<Enqueued, PublishError>> {
        self.inner.enqueue(messages).await
    }
    async fn dequeue(&self, request: &DequeueRequest) -> Result<DequeueReport> {
        if self.mute.load(SeqCst) {
            tokio::time::sleep(request.wait).await;
            return Ok(DequeueReport::default());
        }
        self.inner.dequeue(request).await
    }
    async fn settle(&self, all: &[DeliverySettlement], now: Timestamp) -> Result<SettleReport> {
        if self.to_settlements.load(SeqCst) {
            return deaf("settle");
        }
        let report = self.inner.settle(all, now).await;
        if self.mute.load(SeqCst) {
            return deaf("settle");
        }
        report
    }
    async fn extend(
        &self,
        all: &[Receipt],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Receipt>> {
        let Some(way) = self.hears_after else {
            return deaf("extend");
        };
        tokio::time::sleep(way).await;
        self.inner.extend(all, lease, now).await
    }
    async fn recover_stuck(&self, request: &RecoverRequest) -> Result<DequeueReport> {
        self.recoveries.fetch_add(1, SeqCst);
        self.inner.recover_stuck(request).await
    }
    async fn stats(&self, now: Timestamp) -> Result<QueueStats> {
        self.inner.stats(now).await
    }
}

/// What a worker made of two tasks for which its handler takes 8 s, and whose leases end after 3 s
/// each time; settlements are heard after so many seconds.
async fn handled(seed: u64, heard_after: u32, concurrency: usize) -> (Vec<String>, u64) {
    handled_while(seed, (heard_after, None), concurrency).await
}

async fn handled_while(
    seed: u64,
    (heard_after, hears_after): (u32, Option<Duration>),
    concurrency: usize,
) -> (Vec<String>, u64) {
    let stage = Stage::new(seed);
    stage.enqueue(&[text(0), text(1)]).await;
    let recorder = Recorder::new(8 * SECOND, |_| Ok(()));
    let to_settlements = Arc::new(AtomicBool::new(true));
    let queue = Deaf {
        inner: stage.queue.clone(),
        to_settlements: Arc::clone(&to_settlements),
        hears_after,
        mute: Arc::default(),
        recoveries: Arc::default(),
    };
    let config = WorkerConfig {
        concurrency,
        safety_poll: SECOND,
        ..WorkerConfig::default()
    };
    let worker = Worker::new(Arc::new(queue), plain(&recorder), config).unwrap();
    let worker = worker.driven_by(stage.world.clock.clone(), stage.world.entropy.clone());
    let shutdown = Shutdown::new();
    let trouble = async {
        tokio::time::sleep(heard_after * SECOND).await;
        to_settlements.store(false, SeqCst);
        tokio::time::sleep(60 * SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(worker.run(&shutdown), trouble);
    let stats = stage.queue.stats(stage.world.clock.now()).await.unwrap();
    assert_eq!((stats.depth(), stats.quarantined), (0, 0), "{stats:?}");
    (recorder.handled(), report.unwrap().tally.done)
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_handed_again_what_it_still_handles_goes_on_with_it() {
    assert_eq!(handled(61, 0, 32).await, (vec!["0".into(), "1".into()], 2));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_handed_again_what_waits_for_a_place_handles_it_once() {
    assert_eq!(handled(62, 0, 1).await, (vec!["0".into(), "1".into()], 2));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_handed_again_what_it_has_yet_to_settle_settles_it_once() {
    assert_eq!(handled(63, 20, 32).await, (vec!["0".into(), "1".into()], 2));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_comes_after_its_entry_was_handed_out_again_ends_nothing() {
    let late = Some(3_500 * Duration::from_millis(1));
    let handled = handled_while(64, (0, late), 32).await;
    assert_eq!(handled, (vec!["0".into(), "1".into()], 2));
}

#[tokio::test(start_paused = true)]
async fn what_was_settled_as_failed_unheard_is_not_settled_so_again_under_its_next_attempt() {
    let stage = Stage::new(65);
    stage.enqueue(&[text(0)]).await;
    let mute = Arc::new(AtomicBool::new(false));
    let queue = Deaf {
        inner: stage.queue.clone(),
        to_settlements: Arc::default(),
        hears_after: Some(Duration::ZERO),
        mute: Arc::clone(&mute),
        recoveries: Arc::default(),
    };
    let unheard = Arc::clone(&mute);
    let recorder = Recorder::new(Duration::ZERO, move |delivery| {
        if delivery.attempt > 1 {
            return Ok(());
        }
        unheard.store(true, SeqCst);
        Err(HandlerError::retry("not yet"))
    });
    let config = WorkerConfig {
        safety_poll: Duration::from_millis(100),
        ..WorkerConfig::default()
    };
    let worker = Worker::new(Arc::new(queue), plain(&recorder), config).unwrap();
    let clock = Patient::new(&stage.world.clock);
    let worker = worker.driven_by(clock, stage.world.entropy.clone());
    let shutdown = Shutdown::new();
    let trouble = async {
        tokio::time::sleep(SECOND / 100).await;
        // Somebody else takes the next attempt and dies with it.
        let request = DequeueRequest {
            owner: WorkerId::new(&stage.world.entropy),
            max: 1,
            lease: SECOND / 100,
            wait: 60 * SECOND,
            now: stage.world.clock.now(),
        };
        let taken = stage.queue.dequeue(&request).await.unwrap();
        assert_eq!(taken.deliveries[0].attempt, 2);
        tokio::time::sleep(SECOND).await;
        mute.store(false, SeqCst);
        tokio::time::sleep(60 * SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(worker.run(&shutdown), trouble);
    report.unwrap();
    assert_eq!(recorder.0.attempts.lock().unwrap()["0"], [1, 2]);
}
