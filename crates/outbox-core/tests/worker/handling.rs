use crate::fixture::SECOND;
use crate::fixture::keyed;
use crate::fixture::numbers;
use crate::fixture::text;
use crate::stage::Recorder;
use crate::stage::Stage;
use crate::stage::plain;
use crate::stage::text_of;
use outbox_core::HandlerError;
use outbox_core::consume::Consumer;
use outbox_core::consume::ConsumerConfig;
use outbox_core::consume::WorkerConfig;
use outbox_core::delivery::Delivery;
use outbox_core::ports::{Handler, Queue};
use outbox_core::signal::Shutdown;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::time::Instant;

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
async fn a_run_until_empty_ends_with_its_last_settlement() {
    let stage = Stage::new(27);
    stage.enqueue(&(0..10).map(text).collect::<Vec<_>>()).await;
    let began = Instant::now();
    let report = stage.drain(plain(&Recorder::healthy())).await;
    assert_eq!(report.tally.done, 10);
    // The handlers' millisecond, and no wait for more.
    assert!(began.elapsed() < Duration::from_millis(5));
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
async fn what_a_worker_has_no_place_for_stays_with_the_queue() {
    let stage = Stage::new(20);
    stage.enqueue(&(0..500).map(text).collect::<Vec<_>>()).await;
    let stuck = Recorder::new(1_000 * SECOND, |_| Ok(()));
    let config = WorkerConfig {
        concurrency: 4,
        prefetch: 6,
        ..WorkerConfig::default()
    };
    let worker = stage.worker(plain(&stuck), config);
    let shutdown = Shutdown::new();
    let watch = async {
        tokio::time::sleep(20 * SECOND).await;
        let stats = stage.queue.stats(stage.world.clock.now()).await.unwrap();
        assert_eq!((stats.in_flight, stats.ready), (10, 490));
        assert_eq!(stuck.0.now.load(SeqCst), 4);
    };
    tokio::select! {
        ended = worker.run(&shutdown) => panic!("{ended:?}"),
        () = watch => {}
    }
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
