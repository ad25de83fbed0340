use crate::fixture::SECOND;
use crate::fixture::Sink;
use crate::fixture::World;
use crate::fixture::text;
use crate::spy::Spy;
use outbox_core::relay::RelayConfig;
use outbox_core::signal::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

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
async fn an_idle_relay_leaves_the_outbox_alone() {
    let world = World::new(22);
    let relay = world.relay(&Arc::new(Sink::healthy()), RelayConfig::default());
    let spied = Spy::new(world.outbox.clone());
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
