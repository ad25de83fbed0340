//! The relay, over memory ports on virtual time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod fixture;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use fixture::{SECOND, Sink, World, keyed, numbers, text};
use outbox_core::PublishError;
use outbox_core::message::NewMessage;
use outbox_core::policy::{Backoff, RetryPolicy};
use outbox_core::ports::{ClaimRequest, DeliveryHook, Flush, Outbox};
use outbox_core::relay::RelayConfig;
use outbox_core::report::{BatchReport, Fate};
use outbox_core::signal::Shutdown;
use outbox_core::status::{OnFailure, Ordering};

fn flaky(
    failures: u32,
) -> impl Fn(&outbox_core::message::Message, u32) -> Result<(), PublishError> {
    move |_, seen| {
        if seen <= failures {
            Err(PublishError::failed("flaky"))
        } else {
            Ok(())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_publishes_everything_in_commit_order() {
    let world = World::new(1);
    let sink = Arc::new(Sink::healthy());
    let messages: Vec<_> = (0..1_203).map(text).collect();
    world.append(&messages).await;
    let report = world
        .relay(&sink, RelayConfig::default())
        .flush()
        .await
        .unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.tally.done, 1_203);
    assert_eq!(sink.texts(), numbers(0..1_203));
}

#[tokio::test(start_paused = true)]
async fn a_flush_of_an_empty_outbox_is_complete_at_once() {
    let world = World::new(1);
    let started = tokio::time::Instant::now();
    let relay = world.relay(&Arc::new(Sink::healthy()), RelayConfig::default());
    assert!(relay.flush().await.unwrap().is_complete());
    assert!(started.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn failing_messages_are_retried_until_they_pass() {
    let world = World::new(2);
    let sink = Arc::new(Sink::new(flaky(3)));
    world.append(&(0..50).map(text).collect::<Vec<_>>()).await;
    let report = world
        .relay(&sink, RelayConfig::default())
        .flush()
        .await
        .unwrap();
    assert!(report.is_complete());
    assert_eq!((report.tally.done, report.tally.retried), (50, 150));
    assert_eq!(sink.texts().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_ends_in_quarantine_with_its_history() {
    let world = World::new(3);
    let sink = Arc::new(Sink::new(flaky(u32::MAX)));
    world.append(&[text(0)]).await;
    let report = world
        .relay(&sink, RelayConfig::default())
        .flush()
        .await
        .unwrap();
    assert!(report.is_complete());
    assert_eq!((report.tally.quarantined, report.tally.retried), (1, 7));
    let quarantined = world.outbox.quarantined();
    assert_eq!(quarantined[0].attempts, 8);
    assert!(
        quarantined[0].error.contains("flaky"),
        "{}",
        quarantined[0].error
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_goes_to_quarantine_at_once_and_stops_nobody() {
    let world = World::new(4);
    let sink = Arc::new(Sink::new(|message, _| {
        if message.payload == "3" {
            Err(PublishError::refused("no"))
        } else {
            Ok(())
        }
    }));
    world
        .append(&(0..10).map(|n| keyed("k", n)).collect::<Vec<_>>())
        .await;
    let report = world
        .relay(&sink, RelayConfig::default())
        .flush()
        .await
        .unwrap();
    assert!(report.is_complete());
    assert_eq!((report.tally.done, report.tally.quarantined), (9, 1));
    assert_eq!(sink.texts(), ["0", "1", "2", "4", "5", "6", "7", "8", "9"]);
}

#[tokio::test(start_paused = true)]
async fn a_failing_message_blocks_its_key_and_no_other() {
    let world = World::new(5);
    let sink = Arc::new(Sink::new(|message, seen| {
        if message.payload == "0" && seen < 4 {
            Err(PublishError::failed("x"))
        } else {
            Ok(())
        }
    }));
    let mut messages: Vec<_> = (0..700).map(|n| keyed("a", n)).collect();
    messages.extend((700..1_400).map(|n| keyed("b", n)));
    messages.extend((1_400..2_100).map(text));
    world.append(&messages).await;
    let config = RelayConfig {
        batch_ceiling: 100,
        ..RelayConfig::default()
    };
    assert!(
        world
            .relay(&sink, config)
            .flush()
            .await
            .unwrap()
            .is_complete()
    );
    assert_eq!(sink.texts_of_key("a"), numbers(0..700));
    assert_eq!(sink.texts_of_key("b"), numbers(700..1_400));
    assert_eq!(sink.texts().first().unwrap(), "700", "others did not wait");
    assert_eq!(sink.texts().len(), 2_100);
}

#[tokio::test(start_paused = true)]
async fn skipping_lets_the_key_go_on() {
    let world = World::new(6);
    let sink = Arc::new(Sink::new(|message, seen| {
        if message.payload == "0" && seen < 3 {
            Err(PublishError::failed("x"))
        } else {
            Ok(())
        }
    }));
    world
        .append(&(0..3).map(|n| keyed("a", n)).collect::<Vec<_>>())
        .await;
    let config = RelayConfig {
        on_failure: OnFailure::SkipMessage,
        ..RelayConfig::default()
    };
    assert!(
        world
            .relay(&sink, config)
            .flush()
            .await
            .unwrap()
            .is_complete()
    );
    assert_eq!(sink.texts(), ["1", "2", "0"]);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_without_order_gets_one_message_of_a_key_at_a_time() {
    let world = World::new(7);
    let mut sink = Sink::new(flaky(1));
    sink.order = Ordering::None;
    let sink = Arc::new(sink);
    let messages: Vec<_> = (0..60).map(|n| keyed(["a", "b", "c"][n % 3], n)).collect();
    world.append(&messages).await;
    let config = RelayConfig {
        concurrency: 4,
        ..RelayConfig::default()
    };
    assert!(
        world
            .relay(&sink, config)
            .flush()
            .await
            .unwrap()
            .is_complete()
    );
    for (place, key) in ["a", "b", "c"].into_iter().enumerate() {
        let expected: Vec<_> = (0..60)
            .skip(place)
            .step_by(3)
            .map(|n: usize| n.to_string())
            .collect();
        assert_eq!(sink.texts_of_key(key), expected);
    }
    assert!(sink.calls.lock().unwrap().iter().all(|size| *size <= 3));
}

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

#[tokio::test(start_paused = true)]
async fn one_key_keeps_its_order_across_destinations() {
    let world = World::new(12);
    let mut sink = Sink::new(|message, seen| {
        if message.payload.len() == 2 && seen < 2 {
            Err(PublishError::failed("x"))
        } else {
            Ok(())
        }
    });
    sink.routed = true;
    sink.latency =
        Box::new(|messages| Duration::from_millis(if messages[0].topic == "t0" { 50 } else { 1 }));
    let sink = Arc::new(sink);
    let message =
        |n: usize| NewMessage::new(format!("t{}", n % 3), n.to_string()).ordering_key("k");
    world
        .append(&(0..200).map(message).collect::<Vec<_>>())
        .await;
    assert!(
        world
            .relay(&sink, RelayConfig::default())
            .flush()
            .await
            .unwrap()
            .is_complete()
    );
    assert_eq!(sink.texts(), numbers(0..200));
}

#[tokio::test(start_paused = true)]
async fn an_appended_message_is_published_without_polling() {
    let world = World::new(13);
    let sink = Arc::new(Sink::healthy());
    let relay = world.relay(&sink, RelayConfig::default());
    let shutdown = Shutdown::new();
    let producer = async {
        tokio::time::sleep(7 * SECOND).await;
        world.append(&[text(0)]).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!(sink.texts(), ["0"]);
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), producer);
    assert_eq!(report.unwrap().tally.done, 1);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_is_published_at_its_due_time() {
    let world = World::new(14);
    let sink = Arc::new(Sink::healthy());
    let due = world.clock.now() + 5 * SECOND;
    world.append(&[text(0).due_at(due)]).await;
    let relay = world.relay(&sink, RelayConfig::default());
    let shutdown = Shutdown::new();
    let watch = async {
        tokio::time::sleep(Duration::from_millis(4_990)).await;
        assert!(sink.texts().is_empty());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(sink.texts(), ["0"]);
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), watch);
    assert_eq!(report.unwrap().tally.done, 1);
}

#[tokio::test(start_paused = true)]
async fn a_standby_relay_takes_over_within_five_seconds_of_a_crash() {
    let world = World::new(15);
    let sink = Arc::new(Sink::healthy());
    world
        .append(
            &(0..2_000)
                .map(|n| keyed(&(n % 3).to_string(), n))
                .collect::<Vec<_>>(),
        )
        .await;
    let mut slow = Sink::healthy();
    slow.latency = Box::new(|_| Duration::from_millis(300));
    let slow = Arc::new(slow);
    let victim = world.relay(
        &slow,
        RelayConfig {
            batch_ceiling: 100,
            ..RelayConfig::default()
        },
    );
    let standby = world.relay(&sink, RelayConfig::default());
    let shutdown = Shutdown::new();
    let crash = async {
        // Dropping the future is the crash: nothing is released.
        let _ = tokio::time::timeout(SECOND, victim.run(&shutdown)).await;
        let crashed = tokio::time::Instant::now();
        while world.unsent().await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(crashed.elapsed() < 5 * SECOND, "{:?}", crashed.elapsed());
        shutdown.trigger();
    };
    let later = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        standby.run(&shutdown).await
    };
    let (report, ()) = tokio::join!(later, crash);
    assert!(report.unwrap().tally.done > 0);
    for key in 0..3 {
        let mut order = slow.texts_of_key(&key.to_string());
        order.extend(sink.texts_of_key(&key.to_string()));
        let mut first: Vec<usize> = Vec::new();
        for number in order.iter().map(|text| text.parse().unwrap()) {
            if !first.contains(&number) {
                first.push(number);
            }
        }
        assert!(first.is_sorted(), "first sights are in order");
        assert_eq!(first.len(), (0..2_000).skip(key).step_by(3).count());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_keeps_its_lease_by_heartbeat() {
    let world = World::new(16);
    let mut slow = Sink::healthy();
    slow.latency = Box::new(|_| 9 * SECOND);
    let slow = Arc::new(slow);
    let rival = Arc::new(Sink::healthy());
    world.append(&(0..10).map(text).collect::<Vec<_>>()).await;
    let first = world.relay(&slow, RelayConfig::default());
    let second = world.relay(&rival, RelayConfig::default());
    let shutdown = Shutdown::new();
    let stop = async {
        tokio::time::sleep(20 * SECOND).await;
        shutdown.trigger();
    };
    let later = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        second.run(&shutdown).await.unwrap()
    };
    let (first, second, ()) = tokio::join!(first.run(&shutdown), later, stop);
    assert_eq!(first.unwrap().tally.done, 10);
    assert_eq!(second.tally.done, 0, "live work is never taken away");
    assert!(rival.texts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_gives_back_what_was_not_sent() {
    let world = World::new(17);
    let mut slow = Sink::healthy();
    slow.latency = Box::new(|_| SECOND);
    let slow = Arc::new(slow);
    world
        .append(&(0..1_000).map(text).collect::<Vec<_>>())
        .await;
    let config = RelayConfig {
        batch_ceiling: 100,
        target_latency: 2 * SECOND,
        ..RelayConfig::default()
    };
    let relay = world.relay(&slow, config);
    let shutdown = Shutdown::new();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), stop);
    let report = report.unwrap();
    assert_eq!(
        (report.tally.done, report.finished, report.abandoned),
        (200, 100, 0)
    );
    assert!(report.released >= 100, "{report:?}");
    let claim = ClaimRequest {
        owner: outbox_core::id::WorkerId::new(&world.entropy),
        max: 1,
        lease: SECOND,
        now: world.clock.now(),
        paused_topics: Vec::new(),
    };
    let next = world.outbox.claim(&claim).await.unwrap();
    assert_eq!(
        next.leased[0].message.payload, "200",
        "the lease is free at once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_longer_than_its_grace() {
    let world = World::new(18);
    let mut hung = Sink::healthy();
    hung.latency = Box::new(|_| 100_000 * SECOND);
    world.append(&[text(0)]).await;
    let config = RelayConfig {
        publish_timeout: 1_000 * SECOND,
        ..RelayConfig::default()
    };
    let relay = world.relay(&Arc::new(hung), config);
    let shutdown = Shutdown::new();
    let started = tokio::time::Instant::now();
    let stop = async {
        tokio::time::sleep(SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), stop);
    assert_eq!(report.unwrap().abandoned, 1);
    assert!(started.elapsed() < 12 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_flush_gives_up_on_a_dead_destination_and_says_what_is_left() {
    let world = World::new(19);
    let sink = Arc::new(Sink::new(|_, _| Err(PublishError::unavailable("down"))));
    world.append(&(0..5).map(text).collect::<Vec<_>>()).await;
    let report = world
        .relay(&sink, RelayConfig::default())
        .flush()
        .await
        .unwrap();
    assert_eq!((report.unsent, report.tally.retried), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn slow_publishing_shrinks_batches_and_fast_publishing_grows_them() {
    let world = World::new(20);
    let slow = Arc::new(AtomicBool::new(true));
    let is_slow = Arc::clone(&slow);
    let mut sink = Sink::healthy();
    sink.latency = Box::new(move |messages| {
        let each = if is_slow.load(SeqCst) { 5 } else { 0 };
        Duration::from_millis(1 + each * messages.len() as u64)
    });
    let sink = Arc::new(sink);
    world
        .append(&(0..20_000).map(text).collect::<Vec<_>>())
        .await;
    let relay = world.relay(&sink, RelayConfig::default());
    let shutdown = Shutdown::new();
    let watch = async {
        tokio::time::sleep(10 * SECOND).await;
        let last = *sink.calls.lock().unwrap().last().unwrap();
        assert!((16..=200).contains(&last), "{last}");
        slow.store(false, SeqCst);
        tokio::time::sleep(5 * SECOND).await;
        assert!(sink.calls.lock().unwrap().contains(&500));
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), watch);
    report.unwrap();
}

struct Listener {
    fates: AtomicUsize,
    panics: bool,
}

#[async_trait::async_trait]
impl DeliveryHook for Listener {
    async fn after_batch(&self, report: &BatchReport) {
        let done = report
            .messages
            .iter()
            .filter(|m| m.fate == Fate::Done)
            .count();
        self.fates.fetch_add(done, SeqCst);
        assert!(!self.panics, "a hook that panics");
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_hear_everything_and_can_break_nothing() {
    let world = World::new(21);
    let sink = Arc::new(Sink::healthy());
    let listener = Arc::new(Listener {
        fates: AtomicUsize::new(0),
        panics: false,
    });
    let broken = Arc::new(Listener {
        fates: AtomicUsize::new(0),
        panics: true,
    });
    world
        .append(&(0..1_500).map(text).collect::<Vec<_>>())
        .await;
    let relay = world
        .relay(&sink, RelayConfig::default())
        .hook(Arc::clone(&broken) as _)
        .hook(Arc::clone(&listener) as _);
    assert!(relay.flush().await.unwrap().is_complete());
    assert_eq!(listener.fates.load(SeqCst), 1_500);
    assert_eq!(broken.fates.load(SeqCst), 1_500);
}

#[tokio::test(start_paused = true)]
async fn an_idle_relay_leaves_the_outbox_alone() {
    let world = World::new(22);
    let relay = world.relay(&Arc::new(Sink::healthy()), RelayConfig::default());
    let spied = fixture_spy::Spy::new(world.outbox.clone());
    let calls = Arc::clone(&spied.calls);
    drop(relay);
    let relay = outbox_core::relay::Relay::new(
        Arc::new(spied),
        Arc::new(Sink::healthy()),
        RelayConfig::default(),
    )
    .unwrap()
    .driven_by(Arc::clone(&world.clock), world.entropy.clone());
    let shutdown = Shutdown::new();
    let watch = async {
        tokio::time::sleep(SECOND).await;
        let before = calls.load(SeqCst);
        tokio::time::sleep(60 * SECOND).await;
        assert!(
            calls.load(SeqCst) - before <= 3,
            "{}",
            calls.load(SeqCst) - before
        );
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), watch);
    report.unwrap();
}

mod fixture_spy {
    use super::*;
    use async_trait::async_trait;
    use outbox_core::Result;
    use outbox_core::id::WorkerId;
    use outbox_core::lease::LeaseToken;
    use outbox_core::memory::MemoryOutbox;
    use outbox_core::ports::Settlement;
    use outbox_core::report::{AppendReport, ClaimReport, OutboxStats, SettleReport};
    use outbox_core::signal::Wake;
    use outbox_core::time::Timestamp;

    /// Counts the calls that an outbox gets.
    pub(crate) struct Spy {
        inner: MemoryOutbox,
        pub(crate) calls: Arc<AtomicUsize>,
    }

    impl Spy {
        pub(crate) fn new(inner: MemoryOutbox) -> Self {
            Self {
                inner,
                calls: Arc::default(),
            }
        }

        fn inner(&self) -> &MemoryOutbox {
            self.calls.fetch_add(1, SeqCst);
            &self.inner
        }
    }

    #[async_trait]
    impl Outbox for Spy {
        async fn append(&self, messages: &[NewMessage]) -> Result<AppendReport> {
            self.inner().append(messages).await
        }
        async fn claim(&self, request: &ClaimRequest) -> Result<ClaimReport> {
            self.inner().claim(request).await
        }
        async fn settle(&self, all: &[Settlement], now: Timestamp) -> Result<SettleReport> {
            self.inner().settle(all, now).await
        }
        async fn extend(&self, all: &[LeaseToken], until: Timestamp) -> Result<Vec<LeaseToken>> {
            self.inner().extend(all, until).await
        }
        async fn release(&self, owner: WorkerId) -> Result<()> {
            self.inner().release(owner).await
        }
        async fn resume_key(&self, key: &str) -> Result<bool> {
            self.inner().resume_key(key).await
        }
        async fn purge(&self, before: Timestamp, max: usize) -> Result<u64> {
            self.inner().purge(before, max).await
        }
        async fn stats(&self, now: Timestamp) -> Result<OutboxStats> {
            self.inner().stats(now).await
        }
        fn wake(&self) -> &Wake {
            self.inner.wake()
        }
    }
}
