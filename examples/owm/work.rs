//! Handling tasks: several workers on one queue, around one handler.

use std::sync::Arc;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use outbox::consume::{Consumer, ConsumerConfig, Semantics, Worker};
use outbox::env::EnvConfig;
use outbox::report::Tally;
use outbox::signal::Shutdown;
use outbox::sqlite::SqliteInbox;
use outbox::{OutboxError, Result};
use tokio::task::JoinSet;

use super::embedded::Embedded;
use super::faults::Faults;
use super::ledger::{Ledger, Watched};
use super::limits;
use super::observe::{self, ObserveCity};
use super::outcome::Failure;
use super::settings::{self, WorkKnobs};

/// How tasks are handled.
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    #[command(flatten)]
    knobs: WorkKnobs,
    /// How many workers take tasks from the queue at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = RangedU64ValueParser::<usize>::new().range(1..=64))]
    workers: usize,
    /// How many tasks all workers on the file together may handle in a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// The share of attempts that fail, to see retries at work; of a task no more than 3
    #[arg(long, value_name = "RATE", default_value_t = 0.0, value_parser = settings::share)]
    inject_failures: f64,
}

/// Workers that share one consumer, and so one handler, one breaker and one limit.
#[derive(Clone)]
pub(crate) struct Crew {
    workers: Vec<Arc<Worker>>,
}

impl Crew {
    /// Hires the workers that `args` and `env` ask for.
    pub(crate) async fn hire(
        embedded: &Embedded,
        args: &WorkArgs,
        (env, seed): (&EnvConfig, u64),
        ledger: &Arc<Ledger>,
    ) -> Result<Self, Failure> {
        observe::prepare(&embedded.store).await?;
        let faults = Faults {
            rate: args.inject_failures,
            seed,
        };
        let observe = ObserveCity { faults };
        let inbox = SqliteInbox::open(&embedded.store, "observations").await?;
        let handler = Watched {
            handler: inbox.handler(observe),
            ledger: Arc::clone(ledger),
        };
        let mut consumer = Consumer::new(handler, consumer_config(env, faults)).behind_inbox();
        if let Some(limiter) = limits::limiter(&embedded.store, args.rate, env)? {
            consumer = consumer.limiter(limiter);
        }
        let consumer = Arc::new(consumer);
        let hire = |_| {
            let queue = Arc::clone(&embedded.broker.queue);
            let worker = Worker::new(queue, Arc::clone(&consumer), env.worker())?;
            Ok(Arc::new(worker.hook(ledger.clone())))
        };
        let workers: Result<_> = (0..args.workers).map(hire).collect();
        Ok(Self { workers: workers? })
    }

    /// Works until `shutdown`.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<Tally> {
        let work = |worker: Arc<Worker>| {
            let shutdown = shutdown.clone();
            async move { worker.run(&shutdown).await }
        };
        together(self.workers.into_iter().map(work)).await
    }

    /// Works until the queue holds nothing, or until `shutdown`.
    pub(crate) async fn run_until_empty(self, shutdown: Shutdown) -> Result<Tally> {
        let work = |worker: Arc<Worker>| {
            let shutdown = shutdown.clone();
            async move { worker.run_until_empty(&shutdown).await }
        };
        together(self.workers.into_iter().map(work)).await
    }
}

fn consumer_config(env: &EnvConfig, faults: Faults) -> ConsumerConfig {
    let config = env.consumer();
    ConsumerConfig {
        semantics: Semantics::EffectivelyOnce,
        // Injected failures say nothing about the weather service: they are not to open its breaker.
        breaker: config.breaker.filter(|_| !faults.any()),
        ..config
    }
}

/// Awaits all, each on a task of its own, and adds up what they did.
async fn together<F>(work: impl Iterator<Item = F>) -> Result<Tally>
where
    F: Future<Output = Result<outbox::report::StopReport>> + Send + 'static,
{
    let mut crew: JoinSet<_> = work.collect();
    let mut sum = Tally::default();
    while let Some(joined) = crew.join_next().await {
        let report = joined.unwrap_or(Err(OutboxError::Closed))?;
        sum.add(report.tally);
    }
    Ok(sum)
}
