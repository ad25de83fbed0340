use crate::fixture::SECOND;
use crate::fixture::SetBack;
use crate::fixture::text;
use crate::stage::Recorder;
use crate::stage::Stage;
use crate::stage::plain;
use outbox_core::HandlerError;
use outbox_core::consume::Consumer;
use outbox_core::consume::ConsumerConfig;
use outbox_core::consume::Semantics;
use outbox_core::consume::Worker;
use outbox_core::consume::WorkerConfig;
use outbox_core::delivery::Delivery;
use outbox_core::memory::MemoryDeduplicationCache;
use outbox_core::memory::MemoryFixedWindowLimiter;
use outbox_core::policy::BreakerConfig;
use outbox_core::policy::Window;
use outbox_core::ports::DeduplicationCache;
use outbox_core::ports::Handled;
use outbox_core::ports::Queue;
use outbox_core::report::Tally;
use outbox_core::signal::Shutdown;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

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
async fn a_clock_that_is_set_back_keeps_no_breaker_open() {
    let stage = Stage::new(12);
    let down = Arc::new(AtomicBool::new(true));
    let away = Arc::clone(&down);
    let recorder = Recorder::new(Duration::ZERO, move |_| match away.load(SeqCst) {
        true => Err(HandlerError::retry("down")),
        false => Ok(()),
    });
    let breaker = BreakerConfig {
        max_failures: 1,
        ..BreakerConfig::default()
    };
    let config = ConsumerConfig {
        breaker: Some(breaker),
        ..ConsumerConfig::default()
    };
    let worker = stage.worker(
        Consumer::new(recorder.clone(), config),
        WorkerConfig::default(),
    );
    let clock = SetBack::new(&stage.world.clock);
    let worker = worker.driven_by(clock.clone(), stage.world.entropy.clone());
    let shutdown = Shutdown::new();
    let trouble = async {
        // The second is given back, because the first has opened the breaker.
        for n in 0..2 {
            stage.enqueue(&[text(n)]).await;
            tokio::time::sleep(SECOND / 10).await;
        }
        clock.seconds.store(3_600, SeqCst);
        down.store(false, SeqCst);
        stage.enqueue(&[text(2)]).await;
        tokio::time::sleep(60 * SECOND).await;
        assert!(recorder.handled().contains(&"2".to_owned()));
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(worker.run(&shutdown), trouble);
    report.unwrap();
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
async fn a_handler_that_knows_a_delivery_has_it_counted_as_a_duplicate() {
    for semantics in [Semantics::AtMostOnce, Semantics::AtLeastOnce] {
        let stage = Stage::new(19);
        stage.enqueue(&[text(0), text(1), text(2)]).await;
        let handler = |delivery: Delivery| async move {
            let known = delivery.message.payload != "1";
            Ok(if known {
                Handled::Duplicate
            } else {
                Handled::Done
            })
        };
        let config = ConsumerConfig {
            semantics,
            ..ConsumerConfig::default()
        };
        let tally = stage.drain(Consumer::new(handler, config)).await.tally;
        let expected = Tally {
            done: 1,
            duplicates: 2,
            ..Tally::default()
        };
        assert_eq!(tally, expected, "{semantics:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_knows_is_remembered_by_the_deduplication_cache() {
    let stage = Stage::new(20);
    let made = stage.enqueue(&[text(0)]).await;
    let cache = Arc::new(MemoryDeduplicationCache::new());
    let handler = |_: Delivery| async { Ok(Handled::Duplicate) };
    let consumer = Consumer::new(handler, ConsumerConfig::default()).dedup(cache.clone());
    assert_eq!(stage.drain(consumer).await.tally.duplicates, 1);
    let now = stage.world.clock.now();
    assert!(cache.is_processed(made[0].id, now).await.unwrap());
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
async fn at_most_once_is_remembered_by_the_deduplication_cache_whatever_the_handler_says() {
    let stage = Stage::new(21);
    let made = stage.enqueue(&[text(0)]).await;
    let cache = Arc::new(MemoryDeduplicationCache::new());
    let recorder = Recorder::new(Duration::ZERO, |_| Err(HandlerError::retry("x")));
    let config = ConsumerConfig {
        semantics: Semantics::AtMostOnce,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(recorder.clone(), config).dedup(cache.clone());
    assert_eq!(stage.drain(consumer).await.tally.dropped, 1);
    let later = stage.world.clock.now() + 3_600 * SECOND;
    assert!(cache.is_processed(made[0].id, later).await.unwrap());
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
