//! Generating the tasks of a run.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use outbox::message::NewMessage;
use outbox::ports::Clock;
use outbox::produce::PersistError;
use outbox::time::SystemClock;

use super::cities::{self, BadRow, City};
use super::outcome::Failure;
use super::settings;
use super::task::OwmIngestionTask;

/// What is generated.
#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// The cities: CSV with the columns geoname_id, latitude, longitude and, if you like, country
    #[arg(long, value_name = "FILE", default_value_os_t = cities::shipped())]
    pub(crate) cities: PathBuf,
    /// The name of the run; a city gives one task a run, however often the run is started
    #[arg(long, value_name = "ID", value_parser = settings::run)]
    pub(crate) run: Option<String>,
    /// Whose tasks keep their order on the way to the queue
    #[arg(long, value_enum, default_value_t)]
    pub(crate) key_by: KeyBy,
}

/// The ordering key of a task.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum KeyBy {
    /// None: no task waits for another.
    #[default]
    None,
    /// Its country.
    Country,
}

/// The present hour, as 2026-01-31T09: what a cron job that runs every hour calls its run.
pub(crate) fn this_hour() -> String {
    let mut now = SystemClock.now().to_string();
    now.truncate("2026-01-31T09".len());
    now
}

/// A task to be persisted, and the country that it is about.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) task: OwmIngestionTask,
    country: String,
}

/// What one run is to produce.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) run: String,
    pub(crate) stream: String,
    pub(crate) tasks: Vec<Planned>,
    /// Rows that gave no task.
    pub(crate) bad_rows: usize,
    key_by: KeyBy,
}

impl Plan {
    /// Reads the cities and makes a task of each; tells the rows that give none.
    pub(crate) fn read(args: &ProduceArgs, run: String, stream: String) -> Result<Self, Failure> {
        let list = cities::read(&args.cities)?;
        let mut bad_rows = list.bad;
        let mut tasks = Vec::with_capacity(list.cities.len());
        for city in list.cities {
            match plan(&run, city) {
                Ok(planned) => tasks.push(planned),
                Err(bad) => bad_rows.push(bad),
            }
        }
        bad_rows.sort_by_key(|bad| bad.line);
        for bad in &bad_rows {
            eprintln!("{}: {bad}", args.cities.display());
        }
        Ok(Self {
            run,
            stream,
            tasks,
            bad_rows: bad_rows.len(),
            key_by: args.key_by,
        })
    }

    /// The messages that carry `tasks`.
    pub(crate) fn messages(&self, tasks: &[Planned]) -> Result<Vec<NewMessage>, Failure> {
        let message = |planned: &Planned| {
            let message = planned.task.message(&self.stream, &self.run)?;
            Ok(match self.key_by {
                KeyBy::Country => message.ordering_key(&planned.country),
                KeyBy::None => message,
            })
        };
        tasks.iter().map(message).collect()
    }

    /// What to say where the tasks could not be persisted.
    pub(crate) fn not_persisted(&self, error: &PersistError, persisted: u64) -> Failure {
        let (total, run) = (self.tasks.len(), &self.run);
        let left = total as u64 - persisted.min(total as u64);
        Failure::Incomplete(format!(
            "{left} of {total} tasks are not known to be in the outbox: {}\n\
             What is there will be sent. Run again with --run {run}: nothing is added twice.",
            error.source
        ))
    }

    /// What to say of bad rows in the end.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        match self.bad_rows {
            0 => Ok(()),
            bad => Err(Failure::BadRows(bad)),
        }
    }
}

fn plan(run: &str, city: City) -> Result<Planned, BadRow> {
    match OwmIngestionTask::new(run, &city) {
        Ok(task) => Ok(Planned {
            task,
            country: city.country,
        }),
        Err(invalid) => Err(BadRow {
            line: city.line,
            reason: invalid.to_string(),
        }),
    }
}
