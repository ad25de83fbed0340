use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::config::{Guard, Scenario};
use super::handler::{Inbox, SimHandler};
use super::ledger::{Breach, Ledger, Remains};
use super::outbox::SimOutbox;
use super::process::Process;
use super::produce::{Source, message};
use super::publisher::Ways;
use super::queue::SimQueue;
use super::step::Step;
use super::trouble::Trouble;
use crate::consume::{Consumer, ConsumerConfig, Semantics, Worker};
use crate::error::Result;
use crate::id::Entropy;
use crate::memory::{
    MemoryDeduplicationCache, MemoryGcraLimiter, MemoryOutbox, MemoryOutboxConfig, MemoryQueue,
    MemoryQueueConfig,
};
use crate::policy::Quota;
use crate::ports::{Clock, Handler, Outbox, Queue};
use crate::relay::Relay;
use crate::signal::Shutdown;
use crate::time::{Timestamp, TokioClock};

/// When every world begins.
const BEGINNING: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// How long after the last fault a process may still stand still, or wait in a call that a clock
/// which had jumped has begun.
const AFTERMATH: Duration = Duration::from_secs(45);

/// How often what outbox, queue and quarantine hold is compared with what has to be there.
const CENSUS: Duration = Duration::from_secs(1);

/// How soon a message that is committed in an idle world has to be handled.
const PROMPT: Duration = Duration::from_secs(2);

/// How long an idle world is watched, and the most calls that each of its processes may make
/// meanwhile: its safety polls and its janitor's.
const IDLE: Duration = Duration::from_secs(61);
const IDLE_CALLS: u64 = 12;

/// Everything in a world that outlives its processes.
pub(super) struct Parts {
    pub(super) config: Scenario,
    clock: TokioClock,
    entropy: Entropy,
    trouble: Arc<Trouble>,
    ledger: Arc<Ledger>,
    outbox: SimOutbox,
    queue: SimQueue,
    ways: Ways,
    cache: MemoryDeduplicationCache,
    limiter: Option<MemoryGcraLimiter>,
    inbox: Inbox,
    handler: Option<Arc<dyn Handler>>,
    shutdown: Shutdown,
    crashes: AtomicU64,
}

impl Parts {
    pub(super) fn new(
        seed: u64,
        config: Scenario,
        handler: Option<Arc<dyn Handler>>,
    ) -> Result<Self> {
        let clock = TokioClock::starting_at(BEGINNING);
        let server: Arc<dyn Clock> = Arc::new(clock);
        let entropy = Entropy::seeded(seed);
        let trouble = Arc::new(Trouble::new(entropy.clone(), config.faults.clone()));
        let ledger = Arc::new(Ledger::new(config.clone(), clock));
        let outbox = MemoryOutbox::new(MemoryOutboxConfig {
            clock: Arc::clone(&server),
            entropy: entropy.clone(),
            keep_published: config.keep_published,
            ..MemoryOutboxConfig::default()
        });
        let queue = MemoryQueueConfig {
            high_water: config.high_water,
            ..MemoryQueueConfig::default()
        };
        let limit = config.limit;
        let quota = |permits| Quota::new(permits, Duration::from_secs(1), permits);
        let limiter = limit.map(quota).transpose()?.map(MemoryGcraLimiter::new);
        let queue = SimQueue {
            inner: MemoryQueue::new(queue, server),
            ledger: Arc::clone(&ledger),
            trouble: Arc::clone(&trouble),
        };
        Ok(Self {
            outbox: SimOutbox::new(outbox, Arc::clone(&ledger), Arc::clone(&trouble)),
            ways: Ways::new(&queue, &ledger, &trouble),
            queue,
            clock,
            entropy,
            trouble,
            ledger,
            cache: MemoryDeduplicationCache::new(),
            limiter,
            inbox: Inbox::default(),
            handler,
            shutdown: Shutdown::new(),
            crashes: AtomicU64::new(0),
            config,
        })
    }

    fn process(&self, kind: &str, number: usize) -> Arc<Process> {
        let name = format!("{kind} {number}");
        Process::new(name, Arc::clone(&self.trouble), self.clock)
    }

    fn relay(&self, process: &Process) -> Result<Relay> {
        let clock: Arc<dyn Clock> = process.clock.clone();
        let publisher = self.ways.publisher(&clock, &self.entropy)?;
        let outbox: Arc<dyn Outbox> = Arc::new(self.outbox.clone());
        let relay = Relay::new(outbox, publisher, self.config.relay.clone())?;
        Ok(relay.driven_by(clock, self.entropy.clone()))
    }

    fn queue(&self) -> Arc<dyn Queue> {
        Arc::new(self.queue.clone())
    }

    fn worker(&self, process: &Arc<Process>) -> Result<Worker> {
        let handler = SimHandler {
            process: Arc::clone(process),
            outbox: self.outbox.clone(),
            guard: self.config.guard,
            inbox: self.inbox.clone(),
            inner: self.handler.clone(),
        };
        let semantics = match self.config.guard {
            Guard::AtMostOnce => Semantics::AtMostOnce,
            Guard::Inbox | Guard::Cache => Semantics::EffectivelyOnce,
        };
        let config = ConsumerConfig {
            semantics,
            retry: self.config.retry,
            handler_timeout: Duration::from_secs(4),
            ..ConsumerConfig::default()
        };
        let mut consumer = Consumer::new(handler, config);
        match self.config.guard {
            Guard::Inbox => consumer = consumer.behind_inbox(),
            Guard::Cache => consumer = consumer.dedup(Arc::new(self.cache.clone())),
            Guard::AtMostOnce => {}
        }
        if let Some(limiter) = &self.limiter {
            consumer = consumer.limiter(Arc::new(limiter.clone()));
        }
        let worker = Worker::new(self.queue(), consumer, self.config.worker.clone())?;
        Ok(worker.driven_by(process.clock.clone(), self.entropy.clone()))
    }

    /// Runs relay number `number` in life after life, until it is told to stop.
    async fn relay_lives(&self, number: usize) -> Result<()> {
        let process = self.process("relay", number);
        loop {
            let relay = self.relay(&process)?;
            match process.live(relay.run(&self.shutdown)).await {
                Some(ended) => return ended.map(drop),
                None => self.mourn(&process).await,
            }
        }
    }

    async fn worker_lives(&self, number: usize) -> Result<()> {
        let process = self.process("worker", number);
        loop {
            let worker = self.worker(&process)?;
            match process.live(worker.run(&self.shutdown)).await {
                Some(ended) => return ended.map(drop),
                None => self.mourn(&process).await,
            }
        }
    }

    /// A process has died; it begins anew after a while.
    async fn mourn(&self, process: &Process) {
        self.crashes.fetch_add(1, Relaxed);
        let process = process.name.clone();
        self.ledger.note(Step::Crashed { process });
        sleep(self.trouble.up_to(Duration::from_secs(1))).await;
    }

    fn sources(&self) -> Result<Vec<Source>> {
        let now = self.clock.now();
        let all: Vec<_> = (0..self.config.messages)
            .map(|number| message(number, &self.trouble, (&self.config, now)))
            .collect();
        let share = self.config.messages.div_ceil(self.config.producers.max(1));
        let sources = all.chunks(share.max(1)).enumerate();
        sources
            .map(|(number, messages)| {
                let process = self.process("producer", number);
                Ok(Source {
                    relay: Arc::new(self.relay(&process)?),
                    process,
                    outbox: self.outbox.clone(),
                    entropy: self.entropy.clone(),
                    messages: messages.to_vec(),
                    span: self.config.mayhem,
                })
            })
            .collect()
    }

    /// Starts every process as a task of its own.
    fn start(self: &Arc<Self>) -> Result<(JoinSet<Result<()>>, JoinSet<()>)> {
        let (mut processes, mut producers) = (JoinSet::new(), JoinSet::new());
        for number in 0..self.config.relays {
            let parts = Arc::clone(self);
            processes.spawn(async move { parts.relay_lives(number).await });
        }
        for number in 0..self.config.workers {
            let parts = Arc::clone(self);
            processes.spawn(async move { parts.worker_lives(number).await });
        }
        for source in self.sources()? {
            producers.spawn(async move { source.run().await });
        }
        Ok((processes, producers))
    }

    /// Runs the world from its beginning to its end; how long everything took once the faults had
    /// stopped.
    pub(super) async fn run(self: &Arc<Self>) -> Result<Duration, Breach> {
        let (mut processes, mut producers) = self.start().map_err(broken)?;
        let end = Instant::now() + self.config.mayhem;
        while Instant::now() < end {
            self.wait(CENSUS.min(end - Instant::now()), || false)
                .await?;
            self.check_places().await?;
        }
        self.trouble.stop();
        self.ledger.note(Step::Calm);
        let calm = Instant::now();
        let produced = async { while producers.join_next().await.is_some() {} };
        let _ = timeout(self.config.patience, produced).await;
        let planned = self.config.messages;
        self.ledger.read(|books| books.check_committed(planned))?;
        self.resume_until_done().await?;
        let recovered = calm.elapsed();
        self.check_places().await?;
        self.wait(AFTERMATH, || false).await?;
        self.check_prompt().await?;
        self.check_idle().await?;
        self.shutdown.trigger();
        while let Ok(Some(ended)) = timeout(AFTERMATH, processes.join_next()).await {
            ended.unwrap_or(Ok(())).map_err(broken)?;
        }
        let left = processes.len();
        self.rule(left == 0, "a stop ends", || {
            format!("{left} processes run on")
        })?;
        self.check_places().await?;
        self.ledger.read(|books| books.check_end(true))?;
        Ok(recovered)
    }

    /// Waits until `done`, at most `longest`; ends at once where a rule is broken.
    async fn wait(&self, longest: Duration, done: impl Fn() -> bool) -> Result<(), Breach> {
        let mut news = self.ledger.news.listen();
        let until = Instant::now() + longest;
        loop {
            news.mark_seen();
            if let Some(breach) = self.ledger.breach() {
                return Err(breach);
            }
            if done()
                || tokio::time::timeout_at(until, news.notified())
                    .await
                    .is_err()
            {
                return Ok(());
            }
        }
    }

    /// Waits until everything is done; an operator resumes what is parked every second.
    async fn resume_until_done(&self) -> Result<(), Breach> {
        let until = Instant::now() + self.config.patience;
        while !self.ledger.is_done() && Instant::now() < until {
            self.resume().await?;
            self.wait(Duration::from_secs(1), || self.ledger.is_done())
                .await?;
        }
        self.ledger.read(|books| books.check_end(true))
    }

    /// As an operator does, resumes every key that is parked.
    async fn resume(&self) -> Result<(), Breach> {
        for key in self.ledger.read(|books| books.parked()) {
            self.ledger.write(|books, _| books.resumed(key));
            let resumed = self.outbox.resume_key(&format!("key-{key}")).await;
            resumed.map_err(broken)?;
        }
        Ok(())
    }

    /// A commit wakes an idle relay, and an enqueued message an idle worker, at once.
    async fn check_prompt(&self) -> Result<(), Breach> {
        let late = message(
            self.config.messages,
            &self.trouble,
            (&self.config, BEGINNING),
        );
        self.resume().await?;
        self.outbox.append(&[late]).await.map_err(broken)?;
        self.wait(PROMPT, || self.ledger.is_done()).await?;
        self.rule(self.ledger.is_done(), "a commit wakes", || {
            format!("a message of an idle world is not done after {PROMPT:?}")
        })
    }

    async fn check_idle(&self) -> Result<(), Breach> {
        let before = self.ledger.calls();
        self.wait(IDLE, || false).await?;
        let made = self.ledger.calls() - before;
        let most = IDLE_CALLS * (self.config.relays + self.config.workers) as u64;
        self.rule(made <= most, "idling costs nothing", || {
            format!("an idle world made {made} calls in {IDLE:?}, over {most}")
        })
    }

    async fn check_places(&self) -> Result<(), Breach> {
        let now = self.clock.now();
        let stats = self.queue.inner.stats(now).await.map_err(broken)?;
        let remains = Remains {
            statuses: self.outbox.inner.statuses(now),
            quarantined: self.outbox.inner.quarantined(),
            queue: Some((stats, self.queue.inner.quarantined())),
        };
        self.ledger.read(|books| books.check_places(&remains))
    }

    fn rule(
        &self,
        holds: bool,
        rule: &'static str,
        how: impl FnOnce() -> String,
    ) -> Result<(), Breach> {
        if holds {
            return Ok(());
        }
        Err(Breach { rule, how: how() })
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn struck(&self) -> (u64, u64) {
        (self.crashes.load(Relaxed), self.trouble.struck())
    }

    pub(super) fn age(&self) -> Duration {
        self.clock.now().since(BEGINNING)
    }
}

fn broken(error: crate::error::OutboxError) -> Breach {
    Breach {
        rule: "an orchestrator ends only when it is told to",
        how: error.to_string(),
    }
}
