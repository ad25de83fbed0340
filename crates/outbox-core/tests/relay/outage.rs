use crate::fixture::SECOND;
use crate::fixture::Sink;
use crate::fixture::World;
use crate::fixture::keyed;
use crate::fixture::text;
use outbox_core::PublishError;
use outbox_core::message::NewMessage;
use outbox_core::policy::Backoff;
use outbox_core::policy::RetryPolicy;
use outbox_core::ports::Flush;
use outbox_core::relay::RelayConfig;
use outbox_core::signal::Shutdown;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn an_outage_of_an_hour_costs_no_message_an_attempt() {
    let world = World::new(8);
    let down = Arc::new(AtomicBool::new(true));
    let away = Arc::clone(&down);
    let sink = Arc::new(Sink::new(move |_, _| {
        if away.load(SeqCst) {
            Err(PublishError::unavailable("down"))
        } else {
            Ok(())
        }
    }));
    world
        .append(
            &(0..1_000)
                .map(|n| keyed(&(n % 7).to_string(), n))
                .collect::<Vec<_>>(),
        )
        .await;
    let relay = world.relay(&sink, RelayConfig::default());
    let shutdown = Shutdown::new();
    let operator = async {
        tokio::time::sleep(3_600 * SECOND).await;
        assert!(
            sink.calls.lock().unwrap().len() < 200,
            "an open breaker sends nothing"
        );
        down.store(false, SeqCst);
        while world.unsent().await > 0 {
            tokio::time::sleep(SECOND).await;
        }
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), operator);
    let tally = report.unwrap().tally;
    assert_eq!(
        (tally.done, tally.retried, tally.quarantined),
        (1_000, 0, 0)
    );
    for key in 0..7 {
        let expected: Vec<_> = (0..1_000)
            .skip(key)
            .step_by(7)
            .map(|n: usize| n.to_string())
            .collect();
        assert_eq!(sink.texts_of_key(&key.to_string()), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_of_an_hour_quarantines_nothing() {
    let world = World::new(9);
    let down = Arc::new(AtomicBool::new(true));
    let away = Arc::clone(&down);
    let mut sink = Sink::healthy();
    sink.latency = Box::new(move |_| {
        if away.load(SeqCst) {
            100_000 * SECOND
        } else {
            Duration::from_millis(1)
        }
    });
    let sink = Arc::new(sink);
    world
        .append(&(0..1_000).map(text).collect::<Vec<_>>())
        .await;
    let relay = world.relay(&sink, RelayConfig::default());
    let shutdown = Shutdown::new();
    let operator = async {
        tokio::time::sleep(3_600 * SECOND).await;
        down.store(false, SeqCst);
        while world.unsent().await > 0 {
            tokio::time::sleep(SECOND).await;
        }
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), operator);
    let tally = report.unwrap().tally;
    assert_eq!((tally.done, tally.quarantined), (1_000, 0));
    assert!(tally.retried <= 5, "{tally:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_hang_beside_each_other_open_the_breaker_at_once() {
    let world = World::new(14);
    let mut sink = Sink::healthy();
    sink.latency = Box::new(|_| 100_000 * SECOND);
    let sink = Arc::new(sink);
    world
        .append(&(0..8_000).map(text).collect::<Vec<_>>())
        .await;
    let config = RelayConfig {
        concurrency: 8,
        ..RelayConfig::default()
    };
    let relay = world.relay(&sink, config);
    let shutdown = Shutdown::new();
    let operator = async {
        tokio::time::sleep(600 * SECOND).await;
        let calls = sink.calls.lock().unwrap().clone();
        let trials = calls.iter().filter(|size| **size == 1).count();
        // Eight, and one more for each of the four that broke before the breaker opened.
        assert_eq!(calls.len() - trials, 12, "{calls:?}");
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), operator);
    assert_eq!(report.unwrap().tally.retried, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_hangs_the_publisher_is_found_and_quarantined_alone() {
    let world = World::new(10);
    let mut sink = Sink::healthy();
    sink.latency = Box::new(|messages| {
        let poisoned = messages.iter().any(|m| m.payload == "77");
        if poisoned {
            100_000 * SECOND
        } else {
            Duration::from_millis(1)
        }
    });
    let sink = Arc::new(sink);
    world.append(&(0..300).map(text).collect::<Vec<_>>()).await;
    let config = RelayConfig {
        publish_timeout: SECOND,
        retry: RetryPolicy {
            max_attempts: 3,
            backoff: Backoff::default(),
        },
        ..RelayConfig::default()
    };
    let report = world.relay(&sink, config).flush().await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.tally.done, report.tally.quarantined), (299, 1));
    assert_eq!(
        world.outbox.quarantined()[0]
            .message
            .as_ref()
            .unwrap()
            .payload,
        "77"
    );
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_charges_no_message_for_it() {
    let world = World::new(15);
    let mut sink = Sink::healthy();
    let first = AtomicBool::new(true);
    sink.latency = Box::new(move |_| match first.swap(false, SeqCst) {
        true => 100_000 * SECOND,
        false => Duration::from_millis(1),
    });
    assert_eq!(
        done_and_retried_after_a_standstill(&world, sink).await,
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_panics_is_charged_for_however_long_its_process_stood_still() {
    let world = World::new(16);
    let first = AtomicBool::new(true);
    let mut sink = Sink::new(move |_, _| {
        assert!(!first.swap(false, SeqCst), "it panics once");
        Ok(())
    });
    sink.latency = Box::new(|_| SECOND / 2);
    assert_eq!(
        done_and_retried_after_a_standstill(&world, sink).await,
        (1, 1)
    );
}

/// What becomes of one message whose process stands still for five times the limit of its call.
async fn done_and_retried_after_a_standstill(world: &World, sink: Sink) -> (u64, u64) {
    let sink = Arc::new(sink);
    world.append(&[text(0)]).await;
    let config = RelayConfig {
        publish_timeout: SECOND,
        ..RelayConfig::default()
    };
    let relay = world.relay(&sink, config);
    let shutdown = Shutdown::new();
    let operator = async {
        tokio::time::sleep(SECOND / 10).await;
        assert_eq!(sink.calls.lock().unwrap().len(), 1);
        tokio::time::advance(5 * SECOND).await;
        tokio::time::sleep(60 * SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), operator);
    let tally = report.unwrap().tally;
    (tally.done, tally.retried)
}

#[tokio::test(start_paused = true)]
async fn a_message_that_hangs_each_trial_does_not_stop_those_behind_it() {
    let world = World::new(13);
    let mut sink = Sink::healthy();
    sink.latency = Box::new(|messages| {
        let poisoned = messages.iter().any(|m| m.payload == "0");
        if poisoned {
            100_000 * SECOND
        } else {
            Duration::from_millis(1)
        }
    });
    let sink = Arc::new(sink);
    let relay = world.relay(&sink, RelayConfig::default());
    let shutdown = Shutdown::new();
    world.append(&[text(0)]).await;
    let operator = async {
        // Alone it has opened the breaker long ago, and is all that there is for a trial.
        tokio::time::sleep(900 * SECOND).await;
        for n in 1..=3 {
            world.append(&[text(n)]).await;
            tokio::time::sleep(90 * SECOND).await;
            assert_eq!(sink.texts().len(), n, "{n} waits behind it");
        }
        tokio::time::sleep(900 * SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), operator);
    let tally = report.unwrap().tally;
    assert_eq!((tally.done, tally.quarantined), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_dead_destination_does_not_delay_the_others() {
    let world = World::new(11);
    let mut sink = Sink::healthy();
    sink.routed = true;
    sink.latency = Box::new(|messages| {
        if messages[0].topic == "dead" {
            100_000 * SECOND
        } else {
            Duration::from_millis(1)
        }
    });
    let sink = Arc::new(sink);
    let message = |n: usize| {
        NewMessage::new(
            if n.is_multiple_of(2) { "dead" } else { "alive" },
            n.to_string(),
        )
    };
    world
        .append(&(0..8_000).map(message).collect::<Vec<_>>())
        .await;
    let relay = world.relay(&sink, RelayConfig::default());
    let shutdown = Shutdown::new();
    let watch = async {
        tokio::time::sleep(SECOND).await;
        assert_eq!(
            sink.texts().len(),
            4_000,
            "all of the living within a second"
        );
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), watch);
    let report = report.unwrap();
    assert_eq!(report.tally.done, 4_000);
    assert_eq!(report.tally.retried + report.tally.quarantined, 0);
}
