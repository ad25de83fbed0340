//! The worker and its consumer, over memory ports on virtual time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod fixture;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use fixture::{SECOND, World, keyed, numbers, text};
use outbox_core::HandlerError;
use outbox_core::consume::{Consumer, ConsumerConfig, Semantics, Worker, WorkerConfig};
use outbox_core::delivery::Delivery;
use outbox_core::id::MessageId;
use outbox_core::memory::{
    MemoryDeduplicationCache, MemoryFixedWindowLimiter, MemoryQueue, MemoryQueueConfig,
};
use outbox_core::message::{Message, NewMessage};
use outbox_core::policy::{BreakerConfig, Window};
use outbox_core::ports::{DeduplicationCache, Handler, Queue};
use outbox_core::report::StopReport;
use outbox_core::signal::Shutdown;

type Script = dyn Fn(&Delivery) -> Result<(), HandlerError> + Send + Sync;

/// A handler that records what it did.
#[derive(Clone)]
struct Recorder(Arc<Inner>);

struct Inner {
    script: Box<Script>,
    latency: Duration,
    handled: Mutex<Vec<String>>,
    attempts: Mutex<HashMap<String, Vec<u32>>>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Recorder {
    fn new(
        latency: Duration,
        script: impl Fn(&Delivery) -> Result<(), HandlerError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            script: Box::new(script),
            latency,
            handled: Mutex::default(),
            attempts: Mutex::default(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }))
    }

    fn healthy() -> Self {
        Self::new(Duration::from_millis(1), |_| Ok(()))
    }

    fn handled(&self) -> Vec<String> {
        self.0.handled.lock().unwrap().clone()
    }
}

fn text_of(message: &Message) -> String {
    String::from_utf8(message.payload.to_vec()).unwrap()
}

#[async_trait]
impl Handler for Recorder {
    async fn handle(&self, delivery: &Delivery) -> Result<(), HandlerError> {
        let text = text_of(&delivery.message);
        let inner = &self.0;
        inner
            .attempts
            .lock()
            .unwrap()
            .entry(text.clone())
            .or_default()
            .push(delivery.attempt);
        let running = inner.now.fetch_add(1, SeqCst) + 1;
        inner.most.fetch_max(running, SeqCst);
        tokio::time::sleep(inner.latency).await;
        inner.now.fetch_sub(1, SeqCst);
        (inner.script)(delivery)?;
        inner.handled.lock().unwrap().push(text);
        Ok(())
    }
}

struct Stage {
    world: World,
    queue: MemoryQueue,
}

impl Stage {
    fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let queue = MemoryQueue::new(MemoryQueueConfig::default(), Arc::clone(&world.clock));
        Self { world, queue }
    }

    async fn enqueue(&self, messages: &[NewMessage]) -> Vec<Message> {
        let now = self.world.clock.now();
        let made: Vec<_> = messages
            .iter()
            .map(|new| Message::appended(new, MessageId::new(now, &self.world.entropy), now))
            .collect();
        for result in self.queue.enqueue(&made).await {
            result.unwrap();
        }
        made
    }

    fn worker(&self, consumer: Consumer, config: WorkerConfig) -> Worker {
        Worker::new(Arc::new(self.queue.clone()), consumer, config)
            .unwrap()
            .driven_by(Arc::clone(&self.world.clock), self.world.entropy.clone())
    }

    async fn drain(&self, consumer: Consumer) -> StopReport {
        let worker = self.worker(consumer, WorkerConfig::default());
        worker.run_until_empty(&Shutdown::new()).await.unwrap()
    }
}

fn plain(recorder: &Recorder) -> Consumer {
    Consumer::new(recorder.clone(), ConsumerConfig::default())
}

#[tokio::test(start_paused = true)]
async fn everything_in_the_queue_is_handled_once() {
    let stage = Stage::new(1);
    stage
        .enqueue(&(0..1_200).map(text).collect::<Vec<_>>())
        .await;
    let recorder = Recorder::healthy();
    let report = stage.drain(plain(&recorder)).await;
    assert_eq!(report.tally.done, 1_200);
    let mut handled: Vec<usize> = recorder
        .handled()
        .iter()
        .map(|t| t.parse().unwrap())
        .collect();
    handled.sort_unstable();
    assert_eq!(handled, (0..1_200).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_used_and_not_exceeded() {
    let stage = Stage::new(2);
    stage.enqueue(&(0..300).map(text).collect::<Vec<_>>()).await;
    let recorder = Recorder::healthy();
    let config = WorkerConfig {
        concurrency: 7,
        ..WorkerConfig::default()
    };
    stage
        .worker(plain(&recorder), config)
        .run_until_empty(&Shutdown::new())
        .await
        .unwrap();
    assert_eq!(recorder.0.most.load(SeqCst), 7);
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_one_key_are_handled_one_after_another_in_order() {
    let stage = Stage::new(3);
    let messages: Vec<_> = (0..200).map(|n| keyed(["a", "b"][n % 2], n)).collect();
    stage.enqueue(&messages).await;
    let recorder = Recorder::healthy();
    stage.drain(plain(&recorder)).await;
    assert_eq!(recorder.0.most.load(SeqCst), 2);
    let handled: Vec<usize> = recorder
        .handled()
        .iter()
        .map(|t| t.parse().unwrap())
        .collect();
    for odd in 0..2 {
        let of_key: Vec<_> = handled.iter().filter(|n| *n % 2 == odd).collect();
        assert!(of_key.is_sorted());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_delivery_is_retried_with_its_attempts_counted_and_then_quarantined() {
    let stage = Stage::new(4);
    stage.enqueue(&(0..10).map(text).collect::<Vec<_>>()).await;
    let recorder = Recorder::new(Duration::from_millis(1), |delivery| {
        match (text_of(&delivery.message).as_str(), delivery.attempt) {
            ("3", _) => Err(HandlerError::retry("never")),
            ("5", 1..=2) => Err(HandlerError::retry("twice")),
            _ => Ok(()),
        }
    });
    let report = stage.drain(plain(&recorder)).await;
    assert_eq!(
        (
            report.tally.done,
            report.tally.retried,
            report.tally.quarantined
        ),
        (9, 9, 1)
    );
    let attempts = recorder.0.attempts.lock().unwrap();
    assert_eq!(attempts["3"], (1..=8).collect::<Vec<_>>());
    assert_eq!(attempts["5"], [1, 2, 3]);
    assert!(stage.queue.quarantined()[0].error.contains("never"));
}

#[tokio::test(start_paused = true)]
async fn a_rejected_delivery_is_quarantined_at_once() {
    let stage = Stage::new(5);
    stage.enqueue(&[text(0), text(1)]).await;
    let recorder = Recorder::new(Duration::ZERO, |delivery| {
        if delivery.message.payload == "0" {
            Err(HandlerError::reject("bad"))
        } else {
            Ok(())
        }
    });
    let report = stage.drain(plain(&recorder)).await;
    assert_eq!(
        (
            report.tally.done,
            report.tally.retried,
            report.tally.quarantined
        ),
        (1, 0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn panicking_and_hanging_handlers_count_as_failed_and_the_worker_lives_on() {
    let stage = Stage::new(6);
    stage.enqueue(&[text(0), text(1), text(2)]).await;
    let recorder = Recorder::new(Duration::ZERO, |delivery| {
        assert!(
            delivery.message.payload != "0" || delivery.attempt > 2,
            "the handler panics"
        );
        Ok(())
    });
    let hanging = recorder.clone();
    let handler = move |delivery: Delivery| {
        let recorder = hanging.clone();
        async move {
            if delivery.message.payload == "1" && delivery.attempt < 2 {
                std::future::pending::<()>().await;
            }
            recorder.handle(&delivery).await
        }
    };
    let config = ConsumerConfig {
        handler_timeout: SECOND,
        ..ConsumerConfig::default()
    };
    let report = stage.drain(Consumer::new(handler, config)).await;
    assert_eq!((report.tally.done, report.tally.retried), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn rate_limited_deliveries_wait_and_cost_no_attempt() {
    let stage = Stage::new(7);
    stage.enqueue(&(0..100).map(text).collect::<Vec<_>>()).await;
    let recorder = Recorder::healthy();
    let limiter = MemoryFixedWindowLimiter::new(10, Window::Fixed(60 * SECOND));
    let started = tokio::time::Instant::now();
    let report = stage
        .drain(plain(&recorder).limiter(Arc::new(limiter)))
        .await;
    assert_eq!(
        (
            report.tally.done,
            report.tally.retried,
            report.tally.quarantined
        ),
        (100, 0, 0)
    );
    assert!(
        started.elapsed() > 8 * 60 * SECOND,
        "{:?}",
        started.elapsed()
    );
    assert!(
        started.elapsed() < 12 * 60 * SECOND,
        "{:?}",
        started.elapsed()
    );
    let attempts = recorder.0.attempts.lock().unwrap();
    assert!(attempts.values().all(|attempts| *attempts == [1]));
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_delays_deliveries_and_costs_them_no_attempt() {
    let stage = Stage::new(8);
    stage.enqueue(&(0..40).map(text).collect::<Vec<_>>()).await;
    let down = Arc::new(AtomicBool::new(true));
    let away = Arc::clone(&down);
    let recorder = Recorder::new(Duration::from_millis(1), move |_| {
        if away.load(SeqCst) {
            Err(HandlerError::retry("down"))
        } else {
            Ok(())
        }
    });
    let breaker = BreakerConfig {
        max_failures: 3,
        ..BreakerConfig::default()
    };
    let config = ConsumerConfig {
        breaker: Some(breaker),
        ..ConsumerConfig::default()
    };
    let worker = stage.worker(
        Consumer::new(recorder.clone(), config),
        WorkerConfig {
            concurrency: 1,
            ..WorkerConfig::default()
        },
    );
    let shutdown = Shutdown::new();
    let operator = async {
        tokio::time::sleep(60 * SECOND).await;
        down.store(false, SeqCst);
    };
    let (report, ()) = tokio::join!(worker.run_until_empty(&shutdown), operator);
    let tally = report.unwrap().tally;
    assert_eq!((tally.done, tally.quarantined), (40, 0), "{tally:?}");
    assert!(tally.retried < 12, "only trials cost attempts: {tally:?}");
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_is_acknowledged_without_effect() {
    let stage = Stage::new(9);
    let made = stage.enqueue(&[text(0), text(1)]).await;
    let cache = Arc::new(MemoryDeduplicationCache::new());
    let now = stage.world.clock.now();
    cache
        .record_processed(made[0].id, 100 * SECOND, now)
        .await
        .unwrap();
    let recorder = Recorder::healthy();
    let config = ConsumerConfig {
        semantics: Semantics::EffectivelyOnce,
        ..ConsumerConfig::default()
    };
    let report = stage
        .drain(Consumer::new(recorder.clone(), config).dedup(Arc::clone(&cache) as _))
        .await;
    assert_eq!((report.tally.done, report.tally.duplicates), (1, 1));
    assert_eq!(recorder.handled(), ["1"]);
    assert!(
        cache
            .is_processed(made[1].id, stage.world.clock.now())
            .await
            .unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn a_message_in_progress_elsewhere_is_delayed_and_not_acknowledged() {
    let stage = Stage::new(10);
    let made = stage.enqueue(&[text(0)]).await;
    let cache = Arc::new(MemoryDeduplicationCache::new());
    let now = stage.world.clock.now();
    cache.claim(&[made[0].id], 5 * SECOND, now).await.unwrap();
    let recorder = Recorder::healthy();
    let started = tokio::time::Instant::now();
    let report = stage.drain(plain(&recorder).dedup(cache)).await;
    assert_eq!((report.tally.done, report.tally.duplicates), (1, 0));
    assert!(started.elapsed() >= 5 * SECOND);
    assert_eq!(recorder.0.attempts.lock().unwrap()["0"], [1]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_handling_gives_its_claim_back() {
    let stage = Stage::new(11);
    stage.enqueue(&[text(0)]).await;
    let recorder = Recorder::new(Duration::ZERO, |delivery| {
        if delivery.attempt == 1 {
            Err(HandlerError::retry("once"))
        } else {
            Ok(())
        }
    });
    let started = tokio::time::Instant::now();
    let report = stage
        .drain(plain(&recorder).dedup(Arc::new(MemoryDeduplicationCache::new())))
        .await;
    assert_eq!((report.tally.done, report.tally.retried), (1, 1));
    assert!(
        started.elapsed() < 5 * SECOND,
        "not held until the claim's lease ends"
    );
}

#[tokio::test(start_paused = true)]
async fn at_most_once_acknowledges_before_it_handles() {
    let stage = Stage::new(12);
    stage.enqueue(&[text(0), text(1)]).await;
    let queue = stage.queue.clone();
    let clock = Arc::clone(&stage.world.clock);
    let depths = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&depths);
    let handler = move |delivery: Delivery| {
        let (queue, clock, seen) = (queue.clone(), Arc::clone(&clock), Arc::clone(&seen));
        async move {
            let depth = queue.stats(clock.now()).await.unwrap().depth();
            seen.lock().unwrap().push(depth);
            if delivery.message.payload == "0" {
                Err(HandlerError::retry("x"))
            } else {
                Ok(())
            }
        }
    };
    let config = ConsumerConfig {
        semantics: Semantics::AtMostOnce,
        ..ConsumerConfig::default()
    };
    let report = stage.drain(Consumer::new(handler, config)).await;
    assert_eq!(
        (
            report.tally.done,
            report.tally.dropped,
            report.tally.retried
        ),
        (1, 1, 0)
    );
    assert_eq!(*depths.lock().unwrap(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn effectively_once_without_a_guard_is_a_configuration_error() {
    let stage = Stage::new(13);
    let config = ConsumerConfig {
        semantics: Semantics::EffectivelyOnce,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(Recorder::healthy(), config.clone());
    let queue: Arc<dyn Queue> = Arc::new(stage.queue.clone());
    let error = Worker::new(
        Arc::clone(&queue),
        consumer,
        WorkerConfig {
            batch: 0,
            ..Default::default()
        },
    );
    let text = error.err().unwrap().to_string();
    assert!(
        text.contains("semantics") && text.contains("batch"),
        "{text}"
    );
    let guarded = Consumer::new(Recorder::healthy(), config).behind_inbox();
    assert!(Worker::new(queue, guarded, WorkerConfig::default()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_dead_workers_deliveries_are_taken_over_within_five_seconds() {
    let stage = Stage::new(14);
    stage.enqueue(&(0..50).map(text).collect::<Vec<_>>()).await;
    let stuck = Recorder::new(1_000 * SECOND, |_| Ok(()));
    let victim = stage.worker(plain(&stuck), WorkerConfig::default());
    let recorder = Recorder::healthy();
    let survivor = stage.worker(plain(&recorder), WorkerConfig::default());
    let shutdown = Shutdown::new();
    let crash = async {
        let _ = tokio::time::timeout(SECOND, victim.run(&shutdown)).await;
        let crashed = tokio::time::Instant::now();
        while recorder.handled().len() < 50 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(
                crashed.elapsed() < 5 * SECOND,
                "{}",
                recorder.handled().len()
            );
        }
        shutdown.trigger();
    };
    let later = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        survivor.run(&shutdown).await
    };
    let (report, ()) = tokio::join!(later, crash);
    assert_eq!(report.unwrap().tally.done, 50);
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_and_what_waits_behind_it_are_never_taken_away() {
    let stage = Stage::new(15);
    stage.enqueue(&(0..40).map(text).collect::<Vec<_>>()).await;
    let slow = Recorder::new(8 * SECOND, |_| Ok(()));
    let rival = Recorder::healthy();
    let first = stage.worker(plain(&slow), WorkerConfig::default());
    let second = stage.worker(plain(&rival), WorkerConfig::default());
    let shutdown = Shutdown::new();
    let stop = async {
        tokio::time::sleep(40 * SECOND).await;
        shutdown.trigger();
    };
    let later = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        second.run(&shutdown).await
    };
    let (first, second, ()) = tokio::join!(first.run(&shutdown), later, stop);
    assert_eq!(first.unwrap().tally.done, 40);
    assert_eq!(second.unwrap().tally.done, 0);
    assert_eq!(slow.handled().len(), 40);
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_finishes_what_runs_and_gives_back_the_rest() {
    let stage = Stage::new(16);
    stage.enqueue(&(0..100).map(text).collect::<Vec<_>>()).await;
    let recorder = Recorder::new(2 * SECOND, |_| Ok(()));
    let config = WorkerConfig {
        concurrency: 4,
        prefetch: 20,
        ..WorkerConfig::default()
    };
    let worker = stage.worker(plain(&recorder), config);
    let shutdown = Shutdown::new();
    let stop = async {
        tokio::time::sleep(SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(worker.run(&shutdown), stop);
    let report = report.unwrap();
    assert_eq!(
        (report.finished, report.released, report.abandoned),
        (4, 20, 0)
    );
    let stats = stage.queue.stats(stage.world.clock.now()).await.unwrap();
    assert_eq!((stats.ready, stats.in_flight), (96, 0), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_abandons_hanging_handlers_after_its_grace() {
    let stage = Stage::new(17);
    stage.enqueue(&[text(0)]).await;
    let recorder = Recorder::new(1_000 * SECOND, |_| Ok(()));
    let config = ConsumerConfig {
        handler_timeout: 5_000 * SECOND,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(recorder, config);
    let worker = stage.worker(consumer, WorkerConfig::default());
    let shutdown = Shutdown::new();
    let started = tokio::time::Instant::now();
    let stop = async {
        tokio::time::sleep(SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(worker.run(&shutdown), stop);
    assert_eq!(report.unwrap().abandoned, 1);
    assert!(started.elapsed() < 12 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn enqueued_messages_are_handled_without_polling() {
    let stage = Stage::new(18);
    let recorder = Recorder::healthy();
    let worker = stage.worker(plain(&recorder), WorkerConfig::default());
    let shutdown = Shutdown::new();
    let producer = async {
        tokio::time::sleep(11 * SECOND).await;
        stage.enqueue(&[text(0)]).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(recorder.handled(), ["0"]);
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(worker.run(&shutdown), producer);
    assert_eq!(report.unwrap().tally.done, 1);
}

#[tokio::test(start_paused = true)]
async fn four_workers_share_a_queue_and_handle_everything_once() {
    let stage = Stage::new(19);
    stage
        .enqueue(&(0..2_000).map(text).collect::<Vec<_>>())
        .await;
    let recorder = Recorder::healthy();
    let workers: Vec<_> = (0..4)
        .map(|_| stage.worker(plain(&recorder), WorkerConfig::default()))
        .collect();
    let shutdown = Shutdown::new();
    let runs = workers
        .iter()
        .map(|worker| worker.run_until_empty(&shutdown));
    let reports = futures_util::future::join_all(runs).await;
    let done: Vec<u64> = reports
        .into_iter()
        .map(|report| report.unwrap().tally.done)
        .collect();
    assert_eq!(done.iter().sum::<u64>(), 2_000);
    assert!(done.iter().all(|done| *done > 200), "{done:?}");
    let mut handled: Vec<usize> = recorder
        .handled()
        .iter()
        .map(|t| t.parse().unwrap())
        .collect();
    handled.sort_unstable();
    assert_eq!(handled.len(), numbers(0..2_000).len());
    handled.dedup();
    assert_eq!(handled.len(), 2_000);
}
