//! Publishers without a driver, behind the shipped relay, on virtual time.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod fixture;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fixture::{SECOND, Sink, World, keyed, numbers, text};
use outbox_core::PublishError;
use outbox_core::memory::MemoryDeliveryLog;
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{Flush, Outbox, Publisher};
use outbox_core::publish::{
    CompositeConfig, CompositePublisher, Destination, EventBus, Selector, Strategy, TopicRouter,
};
use outbox_core::relay::{Relay, RelayConfig};

const KEYS: [&str; 3] = ["a", "b", "c"];

fn relay(world: &World, publisher: Arc<dyn Publisher>) -> Relay {
    let outbox = Arc::new(world.outbox.clone());
    let config = RelayConfig {
        batch_ceiling: 100,
        ..RelayConfig::default()
    };
    let relay = Relay::new(outbox, publisher, config).unwrap();
    relay.driven_by(Arc::clone(&world.clock), world.entropy.clone())
}

fn composite(
    world: &World,
    strategy: Strategy,
    sinks: [&Arc<Sink>; 2],
    log: &Arc<MemoryDeliveryLog>,
) -> Arc<dyn Publisher> {
    let names = ["first", "second"].into_iter();
    let to = |(sink, name): (&Arc<Sink>, _)| Destination::new(Arc::clone(sink) as _).named(name);
    let destinations = sinks.into_iter().zip(names).map(to).collect();
    let config = CompositeConfig {
        strategy,
        ..CompositeConfig::default()
    };
    let log = Arc::clone(log);
    let composite = CompositePublisher::new("both", destinations, log, config).unwrap();
    Arc::new(composite.driven_by(Arc::clone(&world.clock), world.entropy.clone()))
}

/// Messages of three keys in turn.
fn in_turn(count: usize) -> Vec<NewMessage> {
    (0..count).map(|n| keyed(KEYS[n % 3], n)).collect()
}

/// Every message once, and those of each key in their order.
fn assert_complete_and_in_order(sink: &Sink, count: usize) {
    assert_eq!(sink.taken.lock().unwrap().len(), count);
    for (place, key) in KEYS.iter().enumerate() {
        let expected: Vec<_> = (place..count).step_by(3).map(|n| n.to_string()).collect();
        assert_eq!(sink.texts_of_key(key), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn retries_for_one_destinations_sake_never_reach_the_one_that_has_the_message() {
    let world = World::new(1);
    let up_from = world.clock.now() + 5 * SECOND;
    let clock = Arc::clone(&world.clock);
    let well = Arc::new(Sink::healthy());
    let ill = Arc::new(Sink::new(move |_, seen| {
        match (clock.now() < up_from, seen % 3) {
            (true, _) => Err(PublishError::unavailable("away")),
            (false, 0) => Ok(()),
            (false, _) => Err(PublishError::failed("flaky")),
        }
    }));
    world.append(&in_turn(300)).await;
    let log = Arc::new(MemoryDeliveryLog::new());
    let both = composite(&world, Strategy::All, [&well, &ill], &log);
    let report = relay(&world, both).flush().await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.tally.done, report.tally.quarantined), (300, 0));
    assert_complete_and_in_order(&well, 300);
    assert_complete_and_in_order(&ill, 300);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_takes_over_sends_only_what_is_missing() {
    let world = World::new(2);
    let quick = Arc::new(Sink::healthy());
    let mut slow = Sink::healthy();
    slow.latency = Box::new(|_| SECOND);
    let slow = Arc::new(slow);
    world.append(&in_turn(900)).await;
    let log = Arc::new(MemoryDeliveryLog::new());
    let mut cuts = 0;
    loop {
        let both = composite(&world, Strategy::All, [&quick, &slow], &log);
        let relay = relay(&world, both);
        match tokio::time::timeout(Duration::from_millis(5_500), relay.flush()).await {
            Err(_) => cuts += 1,
            Ok(report) => break assert!(report.unwrap().is_complete()),
        }
        assert!(cuts < 100, "no progress");
    }
    assert!(cuts > 0);
    assert_complete_and_in_order(&quick, 900);
}

#[tokio::test(start_paused = true)]
async fn a_dead_secondary_hardly_slows_the_primary() {
    let world = World::new(3);
    let primary = Arc::new(Sink::healthy());
    let mut dead = Sink::healthy();
    dead.latency = Box::new(|_| Duration::from_secs(3_600));
    world.append(&in_turn(30_000)).await;
    let log = Arc::new(MemoryDeliveryLog::new());
    let both = composite(&world, Strategy::Primary, [&primary, &Arc::new(dead)], &log);
    let started = tokio::time::Instant::now();
    assert!(relay(&world, both).flush().await.unwrap().is_complete());
    assert!(started.elapsed() < 2 * SECOND, "{:?}", started.elapsed());
    assert_complete_and_in_order(&primary, 30_000);
}

#[tokio::test(start_paused = true)]
async fn a_slow_subscriber_holds_messages_back_and_loses_none() {
    let world = World::new(4);
    let bus = EventBus::new("bus");
    let mut slow = bus.subscribe("slow", Selector::everything(), 4);
    let audited = Arc::new(AtomicUsize::new(0));
    let (calls, done) = (AtomicUsize::new(0), Arc::clone(&audited));
    bus.on("audit", Selector::topic("topic"), move |_: Message| {
        let fails = calls.fetch_add(1, SeqCst) % 10 == 9;
        done.fetch_add(usize::from(!fails), SeqCst);
        async move {
            if fails {
                Err(PublishError::failed("tenth call"))
            } else {
                Ok(())
            }
        }
    });
    world.append(&(0..200).map(text).collect::<Vec<_>>()).await;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Some(message) = slow.next().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
            ear.lock()
                .unwrap()
                .push(String::from_utf8(message.payload.to_vec()).unwrap());
        }
    });
    let report = relay(&world, Arc::new(bus)).flush().await.unwrap();
    assert!(report.is_complete(), "{report:?}");
    tokio::time::sleep(SECOND).await;
    let mut heard = heard.lock().unwrap().clone();
    heard.sort_by_key(|text| text.parse::<usize>().unwrap());
    assert_eq!(heard, numbers(0..200), "each once");
    assert_eq!(audited.load(SeqCst), 200, "each once");
}

#[tokio::test(start_paused = true)]
async fn a_topic_without_a_route_goes_to_quarantine_and_the_others_flow() {
    let world = World::new(5);
    let sink = Arc::new(Sink::healthy());
    let router = TopicRouter::new("router").route("topic", Arc::clone(&sink) as _);
    let stray = NewMessage::new("stray", "x");
    world.append(&[text(0), stray, text(1)]).await;
    let report = relay(&world, Arc::new(router)).flush().await.unwrap();
    assert_eq!((report.tally.done, report.tally.quarantined), (2, 1));
    assert_eq!(sink.texts(), numbers(0..2));
    let stats = world.outbox.stats(world.clock.now()).await.unwrap();
    assert_eq!(stats.quarantined, 1);
}
