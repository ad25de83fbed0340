//! The cron job: one task for every city, persisted in the outbox and flushed to the queue.
//!
//! `cargo run --release --features sqlite --example owm_producer -- --help`
//!
//! It may be killed at any moment, and started again: tasks that were persisted are not added a
//! second time, and what was not sent is sent. It exits with 0 only after nothing is left to send.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks")]

#[allow(dead_code, reason = "each program uses its part")]
mod owm;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use outbox::env::EnvConfig;
use outbox::lease::Sequence;
use outbox::ports::{FlushReport, Replay, ReplayFrom, ReplayRequest};
use outbox::produce::{Producer, ProducerReport};
use outbox::sqlite::SqliteOutbox;
use tokio::time::Instant;

use owm::broker::Broker;
use owm::embedded::{self, Embedded};
use owm::figures::{Figures, grouped};
use owm::ledger::Ledger;
use owm::outcome::{self, Failure};
use owm::produce::{self, Plan, ProduceArgs};
use owm::settings::{self, Basics, Knobs};

/// Makes a task of every city and submits it to the queue, by way of a transactional outbox.
#[derive(Debug, Parser)]
#[command(after_help = outcome::EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    knobs: Knobs,
    #[command(flatten)]
    basics: Basics,
    #[command(flatten)]
    produce: ProduceArgs,
    /// Generate nothing: send what an earlier run has left in the outbox
    #[arg(long)]
    flush_only: bool,
    /// Send again, with what is new, all that was sent and is kept: after a Redis server has lost it
    #[arg(long)]
    replay: bool,
    /// Give up after so many seconds in which nothing could be sent
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    patience: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    outcome::exit(run().await)
}

async fn run() -> Result<(), Failure> {
    let (cli, env) = settings::read::<Cli>()?;
    // The input is read first: where it cannot be used, nothing is touched.
    let plan = if cli.flush_only {
        None
    } else {
        let run = cli.produce.run.clone().unwrap_or_else(produce::this_hour);
        Some(Plan::read(
            &cli.produce,
            run,
            env.stream.clone().unwrap_or_default(),
        )?)
    };
    let started = Instant::now();
    let cron = Cron::open(&env, Duration::from_secs(cli.patience)).await?;
    let mut figures = Figures::default();
    if let Some(plan) = &plan {
        cron.persist(plan, &mut figures).await?;
    }
    if cli.replay {
        cron.replay().await?;
    }
    cron.find_losses().await;
    let flushed = cron.producer.flush().await?;
    figures.flushed = flushed.tally.done;
    figures.seconds = started.elapsed().as_secs_f64();
    figures.tell(cli.basics.json);
    cron.check(&flushed)?;
    plan.map_or(Ok(()), |plan| plan.verdict())
}

/// The parts that do the work.
struct Cron {
    producer: Producer,
    broker: Broker,
    ledger: Arc<Ledger>,
    outbox: Arc<SqliteOutbox>,
    batch_size: usize,
    path: String,
}

impl Cron {
    async fn open(env: &EnvConfig, patience: Duration) -> Result<Self, Failure> {
        let path = env.path.clone().unwrap_or_else(embedded::default_path);
        let embedded = Embedded::open(&path, env).await?;
        let ledger = Arc::new(Ledger::of_all());
        let relay = embedded.relay(env, patience)?.hook(ledger.clone());
        let config = env.producer();
        let batch_size = config.batch_size;
        let outbox = embedded.outbox.clone();
        let broker = embedded.broker.clone();
        let producer = Producer::new(embedded.outbox, Arc::new(relay), config)?;
        Ok(Self {
            producer,
            broker,
            outbox,
            ledger,
            batch_size,
            path: path.display().to_string(),
        })
    }

    /// Persists the plan's tasks, batch by batch: whatever happens from here on, what is persisted
    /// will be sent, by this process or by the next one.
    async fn persist(&self, plan: &Plan, figures: &mut Figures) -> Result<(), Failure> {
        let mut persisted = ProducerReport::default();
        for batch in plan.tasks.chunks(self.batch_size) {
            let report = self.producer.persist(plan.messages(batch)?).await;
            let report = report.map_err(|error| {
                plan.not_persisted(&error, persisted.added + persisted.duplicates)
            })?;
            persisted.add(report);
        }
        figures.produced = plan.tasks.len() as u64;
        figures.persisted = persisted.added;
        figures.duplicates = persisted.duplicates;
        Ok(())
    }

    /// Finds out what a Redis server has lost while nobody was there.
    async fn find_losses(&self) {
        match self.broker.find_losses().await {
            Ok(0) => {}
            Ok(lost) => eprintln!(
                "{} tasks may be lost by the server, and are sent again",
                grouped(lost)
            ),
            // Whoever cannot be asked cannot be sent anything either, and that is told.
            Err(error) => eprintln!("{error}"),
        }
    }

    /// Makes what was sent and is kept ready again; a queue that knows it adds nothing.
    async fn replay(&self) -> Result<(), Failure> {
        let everything = ReplayRequest::of_all(ReplayFrom::Sequence(Sequence(0)));
        let report = self.outbox.replay(&everything).await?;
        eprintln!("{} tasks are sent again", grouped(report.replayed));
        Ok(())
    }

    /// Whether everything was sent; what to do where it was not.
    fn check(&self, flushed: &FlushReport) -> Result<(), Failure> {
        let (path, quarantined) = (&self.path, flushed.tally.quarantined);
        if !flushed.is_complete() {
            let left = grouped(flushed.unsent);
            let problem = self.ledger.problem();
            let why = problem.unwrap_or_else(|| "another relay holds them".to_owned());
            return Err(Failure::Incomplete(format!(
                "{left} tasks are still in the outbox {path}: {why}\n\
                 Nothing is lost: run again once that is mended, with --flush-only to send them only."
            )));
        }
        if quarantined > 0 {
            return Err(Failure::Incomplete(format!(
                "{quarantined} tasks were refused by the queue and lie in quarantine in {path}"
            )));
        }
        Ok(())
    }
}
