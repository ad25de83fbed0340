//! Every orchestrator, dead at each of its awaits in turn: a fresh one finishes, nothing is lost, and
//! nothing is there twice where that is promised.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

#[path = "../fixture/mod.rs"]
mod fixture;
mod paced;
mod saga;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use fixture::{World, keyed, numbers};
use outbox_core::HandlerError;
use outbox_core::consume::{Consumer, ConsumerConfig, Semantics, Worker, WorkerConfig};
use outbox_core::delivery::Delivery;
use outbox_core::id::MessageId;
use outbox_core::memory::{MemoryDeduplicationCache, MemoryQueue, MemoryQueueConfig};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{Flush, Handled, Outbox, Queue};
use outbox_core::produce::{Producer, ProducerConfig};
use outbox_core::publish::QueuePublisher;
use outbox_core::relay::{Relay, RelayConfig};
use outbox_core::signal::Shutdown;
use outbox_core::testing::cut;
use paced::{Pace, PacedOutbox, PacedQueue};

const MESSAGES: usize = 12;
/// More polls than any of the lives here has.
const MOST: usize = 2_000;

/// A small world of paced ports.
struct Scene {
    world: World,
    pace: Arc<Pace>,
    outbox: Arc<dyn Outbox>,
    memory_queue: MemoryQueue,
    queue: Arc<dyn Queue>,
}

impl Scene {
    fn new() -> Self {
        let world = World::new(51);
        let pace = Arc::<Pace>::default();
        let outbox = PacedOutbox::new(world.outbox.clone(), Arc::clone(&pace));
        let memory_queue = MemoryQueue::new(MemoryQueueConfig::default(), Arc::clone(&world.clock));
        let queue = PacedQueue::new(memory_queue.clone(), Arc::clone(&pace));
        Self {
            world,
            pace,
            outbox: Arc::new(outbox),
            memory_queue,
            queue: Arc::new(queue),
        }
    }

    fn relay(&self) -> Relay {
        let publisher = Arc::new(QueuePublisher::new(Arc::clone(&self.queue)));
        let config = RelayConfig {
            batch_floor: 1,
            batch_ceiling: 4,
            ..RelayConfig::default()
        };
        Relay::new(Arc::clone(&self.outbox), publisher, config)
            .unwrap()
            .driven_by(Arc::clone(&self.world.clock), self.world.entropy.clone())
    }

    fn producer(&self) -> Producer {
        let config = ProducerConfig {
            batch_size: 5,
            ..ProducerConfig::default()
        };
        Producer::new(Arc::clone(&self.outbox), Arc::new(self.relay()), config)
            .unwrap()
            .driven_by(Arc::clone(&self.world.clock), self.world.entropy.clone())
    }

    fn worker(&self, consumer: Consumer) -> Worker {
        let config = WorkerConfig {
            concurrency: 3,
            prefetch: 2,
            ..WorkerConfig::default()
        };
        Worker::new(Arc::clone(&self.queue), consumer, config)
            .unwrap()
            .driven_by(Arc::clone(&self.world.clock), self.world.entropy.clone())
    }

    /// Messages of three keys, in turn.
    fn messages(&self) -> Vec<NewMessage> {
        let now = self.world.clock.now();
        let message = |number: usize| keyed(&(number % 3).to_string(), number);
        let made = (0..MESSAGES).map(message);
        made.map(|new| new.identify(now, &self.world.entropy))
            .collect()
    }

    async fn fill_queue(&self) {
        let now = self.world.clock.now();
        let made: Vec<_> = self.messages();
        let made: Vec<_> = made
            .iter()
            .map(|new| Message::appended(new, new.id.unwrap(), now))
            .collect();
        for result in self.memory_queue.enqueue(&made).await {
            result.unwrap();
        }
    }

    /// Everything was enqueued once, each key in its order, and nothing is left behind.
    async fn check_relayed(&self) {
        assert_eq!(self.world.unsent().await, 0);
        let enqueued = self.pace.enqueued();
        let mut sorted = enqueued.clone();
        sorted.sort_by_key(|text| text.parse::<usize>().unwrap());
        assert_eq!(sorted, numbers(0..MESSAGES));
        for key in 0..3 {
            let numbers = enqueued.iter().map(|text| text.parse::<usize>().unwrap());
            let of_key: Vec<_> = numbers.filter(|number| number % 3 == key).collect();
            assert!(of_key.is_sorted(), "key {key}: {of_key:?}");
        }
    }

    async fn check_worked_off(&self) {
        let stats = self
            .memory_queue
            .stats(self.world.clock.now())
            .await
            .unwrap();
        assert_eq!((stats.depth(), stats.quarantined), (0, 0), "{stats:?}");
    }
}

/// How often each message took effect, as a database would know it.
#[derive(Clone, Default)]
struct Effects(Arc<Mutex<BTreeMap<MessageId, usize>>>);

impl Effects {
    fn happen(&self, id: MessageId) {
        *self.0.lock().unwrap().entry(id).or_default() += 1;
    }

    fn counts(&self) -> Vec<usize> {
        self.0.lock().unwrap().values().copied().collect()
    }

    /// A handler with an await before its effect and one after it.
    fn consumer(&self, pace: &Arc<Pace>, semantics: Semantics) -> Consumer {
        let (effects, pace) = (self.clone(), Arc::clone(pace));
        let handler = move |delivery: Delivery| {
            let (effects, pace) = (effects.clone(), Arc::clone(&pace));
            async move {
                pace.pause().await;
                effects.happen(delivery.message.id);
                pace.pause().await;
                Ok::<_, HandlerError>(())
            }
        };
        let config = ConsumerConfig {
            semantics,
            ..ConsumerConfig::default()
        };
        Consumer::new(handler, config)
    }

    /// A handler behind an inbox: the effect and the record of it happen together or not at all.
    fn behind_inbox(&self, pace: &Arc<Pace>) -> Consumer {
        let (effects, pace) = (self.clone(), Arc::clone(pace));
        let handler = move |delivery: Delivery| {
            let (effects, pace) = (effects.clone(), Arc::clone(&pace));
            async move {
                pace.pause().await;
                let id = delivery.message.id;
                let known = effects.0.lock().unwrap().contains_key(&id);
                if !known {
                    effects.happen(id);
                }
                pace.pause().await;
                Ok(if known {
                    Handled::Duplicate
                } else {
                    Handled::Done
                })
            }
        };
        let config = ConsumerConfig {
            semantics: Semantics::EffectivelyOnce,
            ..ConsumerConfig::default()
        };
        Consumer::new(handler, config).behind_inbox()
    }
}

/// Runs `life` with ever more polls until it ends by itself; it answers whether it did.
async fn at_every_await(mut life: impl AsyncFnMut(usize) -> bool) {
    for polls in 0..MOST {
        if life(polls).await {
            assert!(
                polls > 10,
                "it ended after {polls} polls: too few to tell anything"
            );
            return;
        }
    }
    panic!("it did not end within {MOST} polls");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_dies_at_any_await_loses_nothing_and_keeps_the_order() {
    at_every_await(async |polls| {
        let scene = Scene::new();
        scene.world.append(&scene.messages()).await;
        let ended = cut(scene.relay().flush(), polls).await;
        let report = scene.relay().flush().await.unwrap();
        assert!(report.is_complete(), "after {polls}: {report:?}");
        scene.check_relayed().await;
        ended.is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_dies_at_any_await_persists_and_sends_each_message_once() {
    at_every_await(async |polls| {
        let scene = Scene::new();
        let messages = scene.messages();
        let produce = async || {
            let producer = scene.producer();
            producer.persist(messages.clone()).await.unwrap();
            producer.flush().await.unwrap()
        };
        let ended = cut(produce(), polls).await;
        let report = produce().await;
        assert!(report.is_complete(), "after {polls}: {report:?}");
        scene.check_relayed().await;
        ended.is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_at_any_await_handles_everything_at_least_once() {
    at_every_await(async |polls| {
        let (scene, effects) = (Scene::new(), Effects::default());
        scene.fill_queue().await;
        let cache = Arc::new(MemoryDeduplicationCache::new());
        let worker = || {
            let consumer = effects.consumer(&scene.pace, Semantics::EffectivelyOnce);
            scene.worker(consumer.dedup(cache.clone()))
        };
        let never = Shutdown::new();
        let ended = cut(worker().run_until_empty(&never), polls).await;
        worker().run_until_empty(&never).await.unwrap();
        let counts = effects.counts();
        assert_eq!(counts.len(), MESSAGES, "after {polls}");
        // A death between the effect and its record repeats it, and nothing more often than that.
        assert!(counts.iter().all(|count| *count <= 2), "{counts:?}");
        let repeated = counts.iter().filter(|count| **count == 2).count();
        assert!(repeated < MESSAGES / 2, "{counts:?}");
        scene.check_worked_off().await;
        ended.is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_behind_an_inbox_that_dies_at_any_await_has_each_effect_once() {
    at_every_await(async |polls| {
        let (scene, effects) = (Scene::new(), Effects::default());
        scene.fill_queue().await;
        let worker = || scene.worker(effects.behind_inbox(&scene.pace));
        let never = Shutdown::new();
        let ended = cut(worker().run_until_empty(&never), polls).await;
        let tally = worker().run_until_empty(&never).await.unwrap().tally;
        assert_eq!(effects.counts(), [1; MESSAGES], "after {polls}");
        assert!(tally.duplicates <= MESSAGES as u64, "{tally:?}");
        scene.check_worked_off().await;
        ended.is_some()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_at_most_once_that_dies_at_any_await_repeats_nothing() {
    at_every_await(async |polls| {
        let (scene, effects) = (Scene::new(), Effects::default());
        scene.fill_queue().await;
        let worker = || scene.worker(effects.consumer(&scene.pace, Semantics::AtMostOnce));
        let never = Shutdown::new();
        let ended = cut(worker().run_until_empty(&never), polls).await;
        worker().run_until_empty(&never).await.unwrap();
        let counts = effects.counts();
        assert!(
            counts.iter().all(|count| *count == 1),
            "after {polls}: {counts:?}"
        );
        // What may be gone is what was acknowledged and not handled yet.
        assert!(counts.len() + 3 >= MESSAGES, "after {polls}: {counts:?}");
        scene.check_worked_off().await;
        ended.is_some()
    })
    .await;
}
