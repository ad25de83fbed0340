//! The shipped relay, worker and consumer in a seeded world on virtual time, over ports that fail:
//! errors before and after the effect, slow calls, lost replies, crashes and restarts at any await.
//!
//! `OUTBOX_SIM_SEEDS=5000` runs more seeds; a failure prints the seed, and `OUTBOX_SIM_SEED=n`
//! replays it identically.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod faulty;
mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use faulty::{Faults, FaultyOutbox, FaultyQueue};
use fixture::{SECOND, World};
use outbox_core::HandlerError;
use outbox_core::consume::{Consumer, ConsumerConfig, Semantics, Worker, WorkerConfig};
use outbox_core::delivery::Delivery;
use outbox_core::memory::{MemoryDeduplicationCache, MemoryQueue, MemoryQueueConfig};
use outbox_core::message::NewMessage;
use outbox_core::policy::{Backoff, RetryPolicy};
use outbox_core::ports::{Outbox, Queue};
use outbox_core::publish::QueuePublisher;
use outbox_core::relay::{Relay, RelayConfig};
use outbox_core::signal::Shutdown;

const MESSAGES: usize = 60;
const KEYS: usize = 10;
const CRASHING: Duration = Duration::from_secs(40);

/// What the handlers of all workers did, as a database outside the world would have it.
#[derive(Default)]
struct Effects(Mutex<BTreeMap<String, usize>>);

/// A world with several relays and workers that crash and restart.
struct Sim {
    world: World,
    faults: Arc<Faults>,
    outbox: Arc<dyn Outbox>,
    memory_queue: MemoryQueue,
    queue: Arc<dyn Queue>,
    cache: MemoryDeduplicationCache,
    effects: Arc<Effects>,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let faults = Arc::new(Faults::new(world.entropy.clone()));
        let outbox = FaultyOutbox::new(world.outbox.clone(), Arc::clone(&faults));
        let memory_queue = MemoryQueue::new(MemoryQueueConfig::default(), Arc::clone(&world.clock));
        let queue = FaultyQueue::new(memory_queue.clone(), Arc::clone(&faults));
        Self {
            world,
            faults,
            outbox: Arc::new(outbox),
            memory_queue,
            queue: Arc::new(queue),
            cache: MemoryDeduplicationCache::new(),
            effects: Arc::default(),
        }
    }

    fn relay(&self) -> Relay {
        let config = RelayConfig {
            batch_ceiling: 8,
            batch_floor: 1,
            retry: patient(),
            ..RelayConfig::default()
        };
        let publisher = Arc::new(QueuePublisher::new(Arc::clone(&self.queue)));
        Relay::new(Arc::clone(&self.outbox), publisher, config)
            .unwrap()
            .driven_by(Arc::clone(&self.world.clock), self.world.entropy.clone())
    }

    fn worker(&self) -> Worker {
        let effects = Arc::clone(&self.effects);
        let faults = Arc::clone(&self.faults);
        let handler = move |delivery: Delivery| {
            let (effects, faults) = (Arc::clone(&effects), Arc::clone(&faults));
            async move {
                faults.pause().await;
                if faults.strikes(10) {
                    return Err(HandlerError::retry("simulated"));
                }
                let text = String::from_utf8(delivery.message.payload.to_vec()).unwrap();
                *effects.0.lock().unwrap().entry(text).or_default() += 1;
                Ok(())
            }
        };
        let consumer = Consumer::new(
            handler,
            ConsumerConfig {
                semantics: Semantics::EffectivelyOnce,
                retry: patient(),
                ..ConsumerConfig::default()
            },
        )
        .dedup(Arc::new(self.cache.clone()));
        let config = WorkerConfig {
            concurrency: 4,
            prefetch: 4,
            // Runs die here more often than any message may be blamed for.
            max_takeovers: 1_000,
            ..WorkerConfig::default()
        };
        Worker::new(Arc::clone(&self.queue), consumer, config)
            .unwrap()
            .driven_by(Arc::clone(&self.world.clock), self.world.entropy.clone())
    }

    /// Runs one process: it crashes and restarts at random until the faults stop, then runs on.
    async fn live<F: Future>(&self, shutdown: &Shutdown, run: impl Fn() -> F) {
        while self.faults.are_on() && !shutdown.is_triggered() {
            let life = Duration::from_millis(1 + self.world.entropy.next_u64() % 9_000);
            // Dropping the future at whatever await it stands is the crash.
            let _ = tokio::time::timeout(life, run()).await;
            tokio::time::sleep(Duration::from_millis(self.world.entropy.next_u64() % 500)).await;
        }
        run().await;
    }

    async fn produce(&self) {
        for number in 0..MESSAGES {
            let key = format!("key-{}", self.world.entropy.next_u64() as usize % KEYS);
            let message = NewMessage::new("sim", format!("{key}/{number}"))
                .ordering_key(key)
                .identify(self.world.clock.now(), &self.world.entropy);
            // The id makes repeating an append with an unknown outcome harmless.
            while self
                .outbox
                .append(std::slice::from_ref(&message))
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(self.world.entropy.next_u64() % 900)).await;
        }
    }

    async fn direct(&self, shutdown: &Shutdown) {
        let produced = self.produce();
        let calmed = async {
            tokio::time::sleep(CRASHING).await;
            self.faults.stop();
        };
        tokio::join!(produced, calmed);
        for _ in 0..600 {
            let unsent = self.world.unsent().await;
            let waiting = self
                .memory_queue
                .stats(self.world.clock.now())
                .await
                .unwrap()
                .depth();
            if unsent + waiting == 0 {
                break;
            }
            tokio::time::sleep(SECOND).await;
        }
        shutdown.trigger();
    }

    async fn run(&self) {
        let shutdown = Shutdown::new();
        let relays: Vec<_> = (0..3).map(|_| self.relay()).collect();
        let workers: Vec<_> = (0..3).map(|_| self.worker()).collect();
        let relaying = relays
            .iter()
            .map(|relay| self.live(&shutdown, || relay.run(&shutdown)));
        let working = workers
            .iter()
            .map(|worker| self.live(&shutdown, || worker.run(&shutdown)));
        tokio::join!(
            futures_util::future::join_all(relaying),
            futures_util::future::join_all(working),
            self.direct(&shutdown),
        );
    }

    async fn check(&self) {
        let now = self.world.clock.now();
        let stats = self.world.outbox.stats(now).await.unwrap();
        assert_eq!(stats.unsent(), 0, "unsent: {stats:?}");
        assert_eq!(stats.quarantined, 0, "quarantined: {stats:?}");
        let queued = self.memory_queue.stats(now).await.unwrap();
        assert_eq!((queued.depth(), queued.quarantined), (0, 0), "{queued:?}");
        let effects = self.effects.0.lock().unwrap();
        let numbers: BTreeSet<usize> = effects
            .keys()
            .map(|text| text.split('/').nth(1).unwrap().parse().unwrap())
            .collect();
        assert_eq!(
            numbers,
            (0..MESSAGES).collect(),
            "lost or invented messages"
        );
        let enqueued = self.faults.first_enqueued();
        for key in 0..KEYS {
            let prefix = format!("key-{key}/");
            let order: Vec<usize> = enqueued
                .iter()
                .filter_map(|text| text.strip_prefix(&prefix))
                .map(|number| number.parse().unwrap())
                .collect();
            assert!(
                order.is_sorted(),
                "key {key} was enqueued in the order {order:?}"
            );
        }
    }
}

fn patient() -> RetryPolicy {
    let backoff = Backoff {
        base: Duration::from_millis(50),
        cap: Duration::from_secs(2),
    };
    RetryPolicy {
        max_attempts: 1_000,
        backoff,
    }
}

fn simulate(seed: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let sim = Sim::new(seed);
        sim.run().await;
        sim.check().await;
        sim.faults.fingerprint()
    })
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|value| value.parse().expect("a whole number"))
}

#[test]
fn nothing_is_lost_and_order_is_kept_whatever_fails() {
    if let Some(seed) = from_environment("OUTBOX_SIM_SEED") {
        simulate(seed);
        return;
    }
    for seed in 0..from_environment("OUTBOX_SIM_SEEDS").unwrap_or(150) {
        let outcome = std::panic::catch_unwind(|| simulate(seed));
        assert!(
            outcome.is_ok(),
            "replay with: OUTBOX_SIM_SEED={seed} cargo test -p outbox-core --test simulation"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(simulate(7), simulate(7));
    assert_ne!(simulate(7), simulate(8));
}
