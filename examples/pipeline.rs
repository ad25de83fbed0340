//! The whole pipeline in one process: tasks flow from a transactional outbox through a queue to
//! workers, all at once, in one SQLite file.
//!
//! `cargo run --release --features sqlite --example pipeline`
//!
//! It may be killed at any moment: started again on the same file, it first finishes what was left.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks")]

#[allow(dead_code, reason = "each program uses its part")]
mod owm;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use outbox::env::EnvConfig;
use outbox::id::{Entropy, MessageId};
use outbox::message::NewMessage;
use outbox::ports::{Clock, Flush};
use outbox::produce::{Producer, ProducerReport};
use outbox::relay::Relay;
use outbox::signal::Shutdown;
use outbox::time::SystemClock;
use tokio::time::Instant;

use owm::embedded::Embedded;
use owm::figures::{Figures, grouped};
use owm::ledger::Ledger;
use owm::observe;
use owm::outcome::{self, Failure};
use owm::produce::{Plan, ProduceArgs};
use owm::progress::Progress;
use owm::settings::{self, Basics, Knobs};
use owm::work::{Crew, WorkArgs};

/// How long the flush in the end waits while nothing moves.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a task for every city through an outbox and a queue to workers, in one process.
#[derive(Debug, Parser)]
#[command(after_help = outcome::EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    knobs: Knobs,
    #[command(flatten)]
    basics: Basics,
    #[command(flatten)]
    produce: ProduceArgs,
    #[command(flatten)]
    work: WorkArgs,
}

#[tokio::main]
async fn main() -> ExitCode {
    outcome::exit(run().await)
}

async fn run() -> Result<(), Failure> {
    let (cli, env) = settings::read::<Cli>()?;
    // Each start is a run of its own, so that starting again shows something.
    let run = cli.produce.run.clone();
    let run = run.unwrap_or_else(|| SystemClock.now().to_string());
    let plan = Plan::read(&cli.produce, run, env.stream.clone().unwrap_or_default())?;
    let path = env.path.clone().map_or_else(fresh_path, Ok)?;
    eprintln!("pipeline through {}", path.display());
    let pipeline = Pipeline::open(path, &cli, &env, plan).await?;
    let figures = pipeline.flow().await?;
    pipeline.ledger.close();
    figures.tell(cli.basics.json);
    pipeline.check(&figures)
}

/// A file in a new folder of the system's, which stays, so that it can be looked into.
fn fresh_path() -> Result<PathBuf, Failure> {
    let folder = tempfile::Builder::new()
        .prefix("outbox-pipeline-")
        .tempdir();
    let folder = folder.map_err(|error| Failure::Unusable(format!("no folder: {error}")))?;
    Ok(folder.keep().join("outbox.db"))
}

/// The parts, and what they are to do.
struct Pipeline {
    plan: Plan,
    embedded: Embedded,
    relay: Arc<Relay>,
    producer: Producer,
    crew: Crew,
    ledger: Arc<Ledger>,
    batch_size: usize,
}

impl Pipeline {
    async fn open(path: PathBuf, cli: &Cli, env: &EnvConfig, plan: Plan) -> Result<Self, Failure> {
        let embedded = Embedded::open(&path, env).await?;
        let progress = Progress::towards(plan.tasks.len() as u64);
        let ledger = Arc::new(Ledger::of_own(progress));
        let relay = Arc::new(embedded.relay(env, PATIENCE)?.hook(ledger.clone()));
        let seed = cli.basics.seed;
        Ok(Self {
            crew: Crew::hire(&embedded, &cli.work, (env, seed), &ledger).await?,
            producer: Producer::new(embedded.outbox.clone(), relay.clone(), env.producer())?,
            batch_size: env.producer().batch_size,
            plan,
            embedded,
            relay,
            ledger,
        })
    }

    /// Produces, relays and handles, all at the same time, until everything is handled.
    async fn flow(&self) -> Result<Figures, Failure> {
        let started = Instant::now();
        let produced = Shutdown::new();
        let relay = Arc::clone(&self.relay);
        let relaying = {
            let produced = produced.clone();
            tokio::spawn(async move { relay.run(&produced).await })
        };
        let flushed = Shutdown::new();
        let working = tokio::spawn(self.crew.clone().run(flushed.clone()));

        let persisted = self.produce().await?;
        // From here on the end is in sight: first the outbox is emptied, and then the queue.
        produced.trigger();
        joined(relaying.await)?;
        self.flush().await?;
        flushed.trigger();
        joined(working.await)?;
        self.crew.clone().run_until_empty(Shutdown::new()).await?;
        let seconds = started.elapsed().as_secs_f64();
        Ok(Figures {
            produced: self.plan.tasks.len() as u64,
            persisted: persisted.added,
            duplicates: persisted.duplicates + self.ledger.figures().duplicates,
            lost: self.lost().await?,
            seconds,
            ..self.ledger.figures()
        })
    }

    /// Persists all tasks, batch by batch.
    async fn produce(&self) -> Result<ProducerReport, Failure> {
        let entropy = Entropy::from_system();
        let mut persisted = ProducerReport::default();
        for batch in self.plan.tasks.chunks(self.batch_size) {
            let messages = self.plan.messages(batch)?.into_iter();
            let identify = |message: NewMessage| message.identify(SystemClock.now(), &entropy);
            let messages: Vec<NewMessage> = messages.map(identify).collect();
            let ids: Vec<MessageId> = messages.iter().filter_map(|message| message.id).collect();
            self.ledger.announce(ids.iter().copied());
            let report = self.producer.persist(messages).await;
            let report = report.map_err(|error| {
                let before = persisted.added + persisted.duplicates;
                self.plan.not_persisted(&error, before)
            })?;
            self.ledger.committed(ids);
            persisted.add(report);
        }
        Ok(persisted)
    }

    async fn flush(&self) -> Result<(), Failure> {
        let report = self.relay.flush().await?;
        if report.is_complete() {
            return Ok(());
        }
        let (left, path) = (grouped(report.unsent), self.embedded.store.path().display());
        let why = self.ledger.problem().unwrap_or_default();
        Err(Failure::Incomplete(format!(
            "{left} tasks are still in the outbox {path}: {why}\n\
             Nothing is lost: run again with the same --outbox once that is mended."
        )))
    }

    /// How many tasks of this run have left no trace, by what stands in the database.
    async fn lost(&self) -> Result<u64, Failure> {
        let observed = observe::observed(&self.embedded.store, &self.plan.run).await?;
        let tasks = self.plan.tasks.iter();
        let missing = tasks.filter(|planned| !observed.contains(&planned.task.city_id));
        Ok(missing.count() as u64)
    }

    fn check(&self, figures: &Figures) -> Result<(), Failure> {
        let left_over = self.ledger.left_over();
        if left_over > 0 {
            eprintln!(
                "{} tasks that an earlier run had left were handled, too",
                grouped(left_over)
            );
        }
        if figures.lost > 0 {
            let why = self.ledger.problem().unwrap_or_default();
            return Err(Failure::Incomplete(format!(
                "{} tasks were not handled: {why}",
                grouped(figures.lost)
            )));
        }
        self.plan.verdict()
    }
}

/// What a task of the runtime answered.
fn joined<T>(answer: Result<outbox::Result<T>, tokio::task::JoinError>) -> Result<T, Failure> {
    let answer = answer.map_err(|error| Failure::Incomplete(error.to_string()))?;
    Ok(answer?)
}
