use crate::fixture::SECOND;
use crate::fixture::text;
use crate::stage::Recorder;
use crate::stage::Stage;
use crate::stage::plain;
use outbox_core::consume::Consumer;
use outbox_core::consume::ConsumerConfig;
use outbox_core::consume::Semantics;
use outbox_core::consume::WorkerConfig;
use outbox_core::ports::Queue;
use outbox_core::signal::Shutdown;
use std::time::Duration;

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
async fn at_most_once_a_slow_handler_is_left_to_finish() {
    let stage = Stage::new(20);
    stage.enqueue(&[text(0)]).await;
    let slow = Recorder::new(20 * SECOND, |_| Ok(()));
    let config = ConsumerConfig {
        semantics: Semantics::AtMostOnce,
        ..ConsumerConfig::default()
    };
    let worker = stage.worker(Consumer::new(slow.clone(), config), WorkerConfig::default());
    let shutdown = Shutdown::new();
    let stop = async {
        tokio::time::sleep(30 * SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(worker.run(&shutdown), stop);
    assert_eq!(report.unwrap().tally.done, 1);
    assert_eq!(slow.handled(), ["0"]);
}
