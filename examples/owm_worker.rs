//! Takes the tasks from the queue and observes the weather of each city once.
//!
//! `cargo run --release --features sqlite --example owm_worker -- --until-empty`
//!
//! Any number of these may run on one file. SIGTERM and Ctrl-C let it finish what it is at; a worker
//! that is killed leaves its tasks to the others, which take them over within seconds.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program talks")]

#[allow(dead_code, reason = "each program uses its part")]
mod owm;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use outbox::report::Tally;
use outbox::signal::Shutdown;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use owm::embedded::{self, Embedded};
use owm::figures::Figures;
use owm::ledger::Ledger;
use owm::outcome::{self, Failure};
use owm::settings::{self, Basics, Knobs};
use owm::work::{Crew, WorkArgs};

/// Handles tasks from the queue: with retries, a breaker, rate limits, and one effect a task.
#[derive(Debug, Parser)]
#[command(after_help = outcome::EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    knobs: Knobs,
    #[command(flatten)]
    basics: Basics,
    #[command(flatten)]
    work: WorkArgs,
    /// End when the queue holds nothing, not even a task that waits for its next attempt
    #[arg(long)]
    until_empty: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    outcome::exit(run().await)
}

async fn run() -> Result<(), Failure> {
    let (cli, env) = settings::read::<Cli>()?;
    // From the start, so that a worker that is stopped while it opens its file ends in order, too.
    let shutdown = stop_on_signal()?;
    let started = Instant::now();
    let path = env.path.clone().unwrap_or_else(embedded::default_path);
    let embedded = Embedded::open(&path, &env).await?;
    let ledger = Arc::new(Ledger::of_all());
    let crew = Crew::hire(&embedded, &cli.work, (&env, cli.basics.seed), &ledger).await?;
    let tally = if cli.until_empty {
        crew.run_until_empty(shutdown).await?
    } else {
        crew.run(shutdown).await?
    };
    let figures = Figures {
        seconds: started.elapsed().as_secs_f64(),
        ..ledger.figures()
    };
    figures.tell(cli.basics.json);
    check(&tally)
}

/// A stop that SIGTERM and Ctrl-C ask for.
fn stop_on_signal() -> Result<Shutdown, Failure> {
    let no_signals = |error| Failure::Incomplete(format!("cannot listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = ctrl_c() => {}
        }
        eprintln!("stopping: tasks in flight are finished or given back");
        stop.trigger();
    });
    Ok(shutdown)
}

fn check(tally: &Tally) -> Result<(), Failure> {
    match tally.quarantined {
        0 => Ok(()),
        dead => Err(Failure::Incomplete(format!(
            "{dead} tasks could not be handled and lie in quarantine"
        ))),
    }
}
