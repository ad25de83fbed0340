//! Seeded histories over a real server: the shipped relays and workers on a queue in Redis, through
//! proxies that swallow replies, cut, stall and delay, while relays and workers are dropped where
//! they stand. Nothing is lost, each effect exists once behind an inbox, and each key keeps its order
//! in the stream.
//!
//! `OUTBOX_REDIS_SEEDS` sets how many histories are run, `OUTBOX_REDIS_SEED` the first. Faults are
//! drawn from the seed; what the machine does at which of them is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outbox_core::consume::{Consumer, ConsumerConfig, Semantics, Worker, WorkerConfig};
use outbox_core::delivery::Delivery;
use outbox_core::error::HandlerError;
use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::memory::{MemoryOutbox, MemoryOutboxConfig};
use outbox_core::message::NewMessage;
use outbox_core::policy::BreakerConfig;
use outbox_core::ports::{Clock, Handled, Handler, Outbox, Queue};
use outbox_core::publish::QueuePublisher;
use outbox_core::relay::{Relay, RelayConfig};
use outbox_core::signal::Shutdown;
use outbox_core::time::SystemClock;
use outbox_redis::{RedisOptions, RedisQueue, RedisQueueConfig, RedisStore};
use outbox_redis_harness::{Fault, Proxy, Shared};
use tokio::time::{Instant, sleep, timeout};

const MESSAGES: u64 = 80;
const KEYS: u64 = 6;

/// How long faults go on.
const MAYHEM: Duration = Duration::from_secs(4);

/// How long the rest of the work may take after that.
const PATIENCE: Duration = Duration::from_secs(40);

/// What has happened in a history.
#[derive(Default)]
struct Books {
    /// How often each message had its effect.
    effects: BTreeMap<MessageId, u32>,
    /// The entry that each message was first seen in, by key and place in the outbox.
    entries: BTreeMap<(String, u64), (u64, u64)>,
    /// How often a delivery came whose effect was there already.
    repeated: u32,
}

/// Handles with an inbox: the record and the effect are made together, or neither.
#[derive(Clone)]
struct Effects {
    books: Arc<Mutex<Books>>,
    entropy: Entropy,
}

#[async_trait::async_trait]
impl Handler for Effects {
    async fn handle(&self, delivery: &Delivery) -> Result<Handled, HandlerError> {
        let message = &delivery.message;
        let pause = Duration::from_millis(self.entropy.next_u64() % 20);
        if let Some(key) = &message.ordering_key {
            let place = (key.clone(), message.sequence.0);
            let entry = (delivery.receipt.entry.major, delivery.receipt.entry.minor);
            self.books
                .lock()
                .unwrap()
                .entries
                .entry(place)
                .or_insert(entry);
        }
        sleep(pause).await;
        let mut books = self.books.lock().unwrap();
        let effects = books.effects.entry(message.id).or_default();
        if *effects > 0 {
            books.repeated += 1;
            return Ok(Handled::Duplicate);
        }
        *effects += 1;
        Ok(Handled::Done)
    }
}

/// One history: an outbox in memory, a queue of its own on the server, and a proxy for each process.
struct History {
    seed: u64,
    entropy: Entropy,
    name: String,
    outbox: MemoryOutbox,
    books: Arc<Mutex<Books>>,
    produced: AtomicU64,
    faults: AtomicU64,
    deaths: AtomicU64,
    calm: Shutdown,
    end: Shutdown,
}

impl History {
    fn new(seed: u64) -> Self {
        let entropy = Entropy::seeded(seed);
        Self {
            seed,
            name: format!("{seed}-{}", WorkerId::new(&Entropy::from_system())),
            outbox: MemoryOutbox::new(MemoryOutboxConfig {
                entropy: entropy.clone(),
                ..MemoryOutboxConfig::default()
            }),
            entropy,
            books: Arc::default(),
            produced: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            deaths: AtomicU64::new(0),
            calm: Shutdown::new(),
            end: Shutdown::new(),
        }
    }

    fn below(&self, end: u64) -> u64 {
        self.entropy.next_u64() % end
    }

    fn up_to(&self, millis: u64) -> Duration {
        Duration::from_millis(1 + self.below(millis))
    }

    /// The queue at `url`, as soon as it can be reached.
    async fn queue(&self, url: &str) -> Arc<RedisQueue> {
        loop {
            let options = RedisOptions::new(url)
                .connect_timeout(Duration::from_secs(1))
                .command_timeout(Duration::from_millis(300))
                .reconnect(Duration::from_millis(10), Duration::from_millis(50));
            let usual = RedisQueueConfig::named(self.name.clone());
            let config = RedisQueueConfig {
                grace: Duration::from_millis(300),
                // The few that are here at a time have a lease record each, or one between them.
                batch_lease_from: match self.seed % 2 {
                    0 => usual.batch_lease_from,
                    _ => 1,
                },
                ..usual
            };
            if let Ok(store) = RedisStore::open_with(options).await
                && let Ok(queue) = RedisQueue::open(&store, config).await
            {
                return Arc::new(queue);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lives in life after life, each `one` of them dropped somewhere while faults go on.
    async fn live(&self, one: impl AsyncFn()) {
        while !self.calm.is_triggered() {
            let dies = async {
                tokio::select! {
                    () = sleep(self.up_to(2_500)) => {
                        self.deaths.fetch_add(1, Relaxed);
                    }
                    // Nobody dies any more: the last life goes on until the end.
                    () = self.calm.triggered() => self.end.triggered().await,
                }
            };
            tokio::select! {
                () = one() => return,
                () = dies => {}
            }
        }
        if !self.end.is_triggered() {
            one().await;
        }
    }

    async fn relay(&self, url: &str) {
        let config = RelayConfig {
            batch_floor: 1,
            batch_ceiling: 16,
            lease: Duration::from_secs(1),
            publish_timeout: Duration::from_secs(1),
            breaker: BreakerConfig {
                reset_timeout: Duration::from_millis(100),
                max_reset_timeout: Duration::from_millis(500),
                ..BreakerConfig::default()
            },
            ..RelayConfig::default()
        };
        self.live(async || {
            let publisher = Arc::new(QueuePublisher::new(self.queue(url).await));
            let outbox = Arc::new(self.outbox.clone());
            let relay = Relay::new(outbox, publisher, config.clone()).unwrap();
            relay.run(&self.end).await.unwrap();
        })
        .await;
    }

    async fn worker(&self, url: &str) {
        let config = WorkerConfig {
            lease: Duration::from_secs(1),
            // Runs die here more often than any message may be blamed for.
            max_takeovers: 1_000,
            ..WorkerConfig::default()
        };
        self.live(async || {
            let handler = Effects {
                books: Arc::clone(&self.books),
                entropy: self.entropy.clone(),
            };
            let consumer = ConsumerConfig {
                semantics: Semantics::EffectivelyOnce,
                ..ConsumerConfig::default()
            };
            let consumer = Consumer::new(handler, consumer).behind_inbox();
            let queue = self.queue(url).await;
            let worker = Worker::new(queue, consumer, config.clone()).unwrap();
            worker.run(&self.end).await.unwrap();
        })
        .await;
    }

    /// Appends everything while faults go on.
    async fn produce(&self) {
        let mut appended = 0;
        while appended < MESSAGES {
            let count = (1 + self.below(6)).min(MESSAGES - appended);
            let message = |number: u64| {
                let new = NewMessage::new("tasks", number.to_string());
                match self.below(5) {
                    0 => new,
                    _ => new.ordering_key(format!("key {}", self.below(KEYS))),
                }
            };
            let batch: Vec<_> = (appended..appended + count).map(message).collect();
            self.outbox.append(&batch).await.unwrap();
            appended += count;
            self.produced.store(appended, Relaxed);
            let pause = u64::try_from(MAYHEM.as_millis()).unwrap() * count / MESSAGES;
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Spoils what goes through the proxies, one at a time.
    async fn spoil(&self, proxies: &[Proxy]) {
        while !self.calm.is_triggered() {
            sleep(self.up_to(150)).await;
            let place = usize::try_from(self.below(proxies.len() as u64)).unwrap();
            let proxy = &proxies[place];
            self.faults.fetch_add(1, Relaxed);
            let fault = match self.below(6) {
                0 => Fault::SwallowReplies,
                1 => Fault::CutAtReply,
                2 => Fault::HalfOpen,
                3 => Fault::Refuse,
                4 => Fault::Delay(self.up_to(60)),
                _ => Fault::None,
            };
            proxy.set(fault);
            sleep(self.up_to(400)).await;
            proxy.set(Fault::None);
            if !matches!(fault, Fault::Delay(_)) {
                proxy.cut();
            }
        }
    }

    /// Waits until outbox and queue are empty, and ends everything.
    async fn wind_up(&self, direct: &RedisQueue) {
        sleep(MAYHEM).await;
        self.calm.trigger();
        let until = Instant::now() + PATIENCE;
        loop {
            // In the order in which a message goes: one that comes meanwhile is seen further on.
            let produced = self.produced.load(Relaxed) == MESSAGES;
            let unsent = self.outbox.stats(SystemClock.now()).await.unwrap().unsent();
            let depth = direct.stats(SystemClock.now()).await.unwrap().depth();
            if produced && unsent == 0 && depth == 0 {
                break;
            }
            let told = self.told();
            assert!(
                Instant::now() < until,
                "{unsent} unsent, {depth} in the queue; {told}"
            );
            sleep(Duration::from_millis(50)).await;
        }
        self.end.trigger();
    }

    /// The command that runs this history again.
    fn told(&self) -> String {
        let seed = self.seed;
        format!(
            "replay with: OUTBOX_REDIS_SEED={seed} OUTBOX_REDIS_SEEDS=1 cargo nextest run \
             -p outbox-redis --test histories"
        )
    }

    async fn run(&self, server: &Shared, port: u16) {
        let mut proxies = Vec::new();
        for _ in 0..4 {
            proxies.push(Proxy::before(port).await.unwrap());
        }
        let urls: Vec<_> = proxies.iter().map(Proxy::url).collect();
        let direct = self.queue(server.url()).await;
        let all = async {
            tokio::join!(
                self.produce(),
                self.relay(&urls[0]),
                self.relay(&urls[1]),
                self.worker(&urls[2]),
                self.worker(&urls[3]),
                self.spoil(&proxies),
                self.wind_up(&direct),
            )
        };
        let ended = timeout(MAYHEM + 2 * PATIENCE, all).await;
        assert!(ended.is_ok(), "it does not end; {}", self.told());
        self.check(&direct).await;
    }

    async fn check(&self, direct: &RedisQueue) {
        let told = self.told();
        let stats = direct.stats(SystemClock.now()).await.unwrap();
        assert_eq!((stats.depth(), stats.quarantined), (0, 0), "{told}");
        assert!(self.outbox.quarantined().is_empty(), "{told}");
        let books = self.books.lock().unwrap();
        let doubled = books
            .effects
            .values()
            .filter(|effects| **effects > 1)
            .count();
        assert_eq!(books.effects.len() as u64, MESSAGES, "lost; {told}");
        assert_eq!(doubled, 0, "{told}");
        let keys: BTreeSet<&String> = books.entries.keys().map(|(key, _)| key).collect();
        for key in keys {
            let of_key = books.entries.iter().filter(|((of, _), _)| of == key);
            let entries: Vec<_> = of_key.map(|(_, entry)| *entry).collect();
            assert!(
                entries.is_sorted(),
                "{key} is out of order: {entries:?}; {told}"
            );
        }
    }
}

fn variable(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().expect("a whole number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_network_does_nothing_is_lost_doubled_or_out_of_order() {
    let server = Shared::start().await.unwrap();
    let (_, port) = server.url().rsplit_once(':').unwrap();
    let port = port.trim_end_matches('/').parse().unwrap();
    let first = variable("OUTBOX_REDIS_SEED", 1);
    let seeds = variable("OUTBOX_REDIS_SEEDS", 12);
    let histories: Vec<_> = (first..first + seeds).map(History::new).collect();
    // They mostly wait: several at a time.
    for some in histories.chunks(6) {
        let runs = some.iter().map(|history| history.run(&server, port));
        futures_util::future::join_all(runs).await;
    }
    let sum = |of: fn(&History) -> u64| histories.iter().map(of).sum::<u64>();
    let faults = sum(|history| history.faults.load(Relaxed));
    let deaths = sum(|history| history.deaths.load(Relaxed));
    let repeated = sum(|history| history.books.lock().unwrap().repeated.into());
    println!(
        "histories: {seeds}, messages: {}, faults: {faults}, deaths: {deaths}, repeated: \
         {repeated}, lost: 0, doubled: 0",
        seeds * MESSAGES
    );
    assert!(faults > 5 * seeds && deaths > seeds, "{faults}, {deaths}");
}
