use crate::fixture::SECOND;
use crate::fixture::Sink;
use crate::fixture::World;
use crate::fixture::keyed;
use crate::fixture::numbers;
use crate::fixture::text;
use crate::flaky;
use outbox_core::PublishError;
use outbox_core::ports::DeliveryHook;
use outbox_core::ports::Flush;
use outbox_core::relay::RelayConfig;
use outbox_core::report::BatchReport;
use outbox_core::report::Fate;
use outbox_core::signal::Shutdown;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

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
async fn a_flush_that_gives_up_in_the_middle_of_a_call_counts_all_that_is_left() {
    let world = World::new(21);
    let mut sink = Sink::healthy();
    sink.latency = Box::new(|_| Duration::from_secs(3_600));
    world.append(&(0..40).map(text).collect::<Vec<_>>()).await;
    let config = RelayConfig {
        batch_ceiling: 10,
        batch_floor: 1,
        publish_timeout: Duration::from_secs(3_600),
        flush_patience: SECOND,
        ..RelayConfig::default()
    };
    let report = world.relay(&Arc::new(sink), config).flush().await.unwrap();
    assert_eq!(report.unsent, 40);
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
