use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outbox_core::PublishError;
use outbox_core::id::WorkerId;
use outbox_core::memory::{MemoryOutbox, MemoryOutboxConfig};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{DeliveryHook, Flush, Outbox};
use outbox_core::relay::{Relay, RelayConfig};
use outbox_core::report::BatchReport;
use outbox_core::signal::Shutdown;
use tokio::time::{Instant, sleep};

use crate::fixture::{SECOND, Sink, World, text};
use crate::spy::Spy;

fn relay_over(spy: Spy, world: &World, sink: &Arc<Sink>, config: RelayConfig) -> Relay {
    Relay::new(Arc::new(spy), Arc::clone(sink) as _, config)
        .unwrap()
        .driven_by(Arc::clone(&world.clock), world.entropy.clone())
}

#[tokio::test(start_paused = true)]
async fn the_next_batch_is_read_while_the_last_one_is_published() {
    const TAKES: Duration = Duration::from_millis(10);
    let world = World::new(30);
    let mut sink = Sink::healthy();
    sink.latency = Box::new(|_| TAKES);
    let sink = Arc::new(sink);
    world
        .append(&(0..2_000).map(text).collect::<Vec<_>>())
        .await;
    let spy = Spy::new(world.outbox.clone());
    spy.claims_take.store(TAKES.as_millis() as u64, SeqCst);
    let config = RelayConfig {
        batch_ceiling: 100,
        ..RelayConfig::default()
    };
    let started = Instant::now();
    let relay = relay_over(spy, &world, &sink, config);
    assert!(relay.flush().await.unwrap().is_complete());
    assert_eq!(*sink.calls.lock().unwrap(), [100; 20]);
    let took = started.elapsed();
    assert!(took < 24 * TAKES, "one after the other takes 40: {took:?}");
}

/// From append to publication of healthy messages, on average, while every `spoilt`th one is of
/// another topic; the sink does with those what it likes.
async fn latency(sink: Sink, spoilt: usize) -> Duration {
    let world = World::new(31);
    let started = Instant::now();
    let arrived: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let mut sink = sink;
    let script = std::mem::replace(&mut sink.script, Box::new(|_, _| Ok(())));
    let heard = Arc::clone(&arrived);
    sink.script = Box::new(move |message: &Message, seen| {
        if message.topic == "topic" {
            let number = std::str::from_utf8(&message.payload).unwrap();
            let number: u32 = number.parse().unwrap();
            heard
                .lock()
                .unwrap()
                .push(started.elapsed() - PACE * number);
        }
        script(message, seen)
    });
    let sink = Arc::new(sink);
    let relay = world.relay(&sink, RelayConfig::default());
    let shutdown = Shutdown::new();
    let stream = async {
        for number in 0..MESSAGES {
            world.append(&[text(number)]).await;
            if number % spoilt == 0 {
                world.append(&[NewMessage::new("spoilt", "x")]).await;
            }
            tokio::time::sleep_until(started + PACE * (number as u32 + 1)).await;
        }
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), stream);
    report.unwrap();
    let arrived = arrived.lock().unwrap();
    assert_eq!(arrived.len(), MESSAGES);
    arrived.iter().sum::<Duration>() / u32::try_from(MESSAGES).unwrap()
}

const MESSAGES: usize = 2_000;
const PACE: Duration = Duration::from_millis(20);

fn routed() -> Sink {
    let mut sink = Sink::healthy();
    sink.routed = true;
    sink
}

#[tokio::test(start_paused = true)]
async fn what_is_dead_or_poison_changes_the_latency_of_others_by_less_than_a_twentieth() {
    let alone = latency(routed(), usize::MAX).await;
    let mut hanging = routed();
    hanging.latency = Box::new(|messages| {
        if messages[0].topic == "spoilt" {
            100_000 * SECOND
        } else {
            Duration::from_millis(1)
        }
    });
    let refuse = |error: fn() -> PublishError| {
        let mut sink = Sink::new(move |message, _| match message.topic.as_str() {
            "spoilt" => Err(error()),
            _ => Ok(()),
        });
        sink.routed = true;
        sink
    };
    let away = refuse(|| PublishError::unavailable("away"));
    let poison = refuse(|| PublishError::failed("poison"));
    for (name, sink) in [("hanging", hanging), ("away", away), ("poison", poison)] {
        let beside = latency(sink, 5).await;
        let ratio = beside.as_secs_f64() / alone.as_secs_f64();
        assert!(ratio < 1.05, "{name}: {beside:?} beside {alone:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_janitor_purges_whatever_is_older_than_its_retention_batch_after_batch() {
    const KEPT: Duration = Duration::from_secs(3_600);
    let mut world = World::new(32);
    world.outbox = MemoryOutbox::new(MemoryOutboxConfig {
        keep_published: true,
        clock: Arc::clone(&world.clock),
        entropy: world.entropy.clone(),
        ..MemoryOutboxConfig::default()
    });
    let sink = Arc::new(Sink::healthy());
    let spy = Spy::new(world.outbox.clone());
    let purged = Arc::clone(&spy.purged);
    let config = RelayConfig {
        retention: KEPT,
        purge_batch: 100,
        ..RelayConfig::default()
    };
    let relay = relay_over(spy, &world, &sink, config);
    let shutdown = Shutdown::new();
    let late = world.clock.now() + 3 * KEPT;
    world.append(&[text(0).due_at(late)]).await;
    world
        .append(&(1..=20_000).map(text).collect::<Vec<_>>())
        .await;
    let watch = async {
        sleep(KEPT - SECOND).await;
        let stats = world.outbox.stats(world.clock.now()).await.unwrap();
        assert_eq!((stats.published, stats.unsent()), (20_000, 1));
        // One interval later all of it is old, and 200 batches go as fast as they can.
        sleep(62 * SECOND).await;
        let stats = world.outbox.stats(world.clock.now()).await.unwrap();
        assert_eq!((stats.published, stats.unsent()), (0, 1));
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), watch);
    report.unwrap();
    let purged = purged.lock().unwrap();
    assert!(purged.iter().all(|count| *count <= 100), "{purged:?}");
    assert!(purged.len() < 300, "it looks once a minute otherwise");
}

/// Hears who works.
#[derive(Default)]
struct Holders(Mutex<Vec<WorkerId>>);

#[async_trait::async_trait]
impl DeliveryHook for Holders {
    async fn after_batch(&self, report: &BatchReport) {
        self.0.lock().unwrap().push(report.worker);
    }
}

#[tokio::test(start_paused = true)]
async fn each_run_is_a_holder_of_its_own() {
    let world = World::new(33);
    let sink = Arc::new(Sink::healthy());
    let holders = Arc::new(Holders::default());
    let relay = world.relay(&sink, RelayConfig::default());
    let relay = relay.hook(Arc::clone(&holders) as _);
    for number in 0..2 {
        world.append(&[text(number)]).await;
        assert!(relay.flush().await.unwrap().is_complete());
    }
    let holders = holders.0.lock().unwrap();
    assert_eq!(holders.len(), 2);
    assert_ne!(holders[0], holders[1]);
}
