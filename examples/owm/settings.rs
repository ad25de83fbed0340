//! The programs' settings: flags, and `OUTBOX_*` variables of the same meaning.
//!
//! Flags that have a variable are texts to clap: [`EnvConfig`] reads all of them at once, so that
//! every problem is told in one go, under the name that its user wrote.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, Parser};
use outbox::env::EnvConfig;
use outbox::error::ConfigError;

use super::outcome::Failure;

/// The flags of every program that have a variable.
#[derive(Debug, Args)]
pub(crate) struct Knobs {
    /// The file of outbox, queue and what is observed; it is made with its folder where it is missing
    #[arg(long, value_name = "PATH", env = "OUTBOX_PATH")]
    outbox: Option<OsString>,
    /// A Redis server that the queue is on, as redis://localhost [default: the queue is in the file]
    #[arg(
        long,
        value_name = "URL",
        env = "OUTBOX_REDIS_URL",
        hide_env_values = true
    )]
    redis: Option<OsString>,
    /// The name of the queue [default: owm-ingestion-stream]
    #[arg(long, value_name = "NAME", env = "OUTBOX_STREAM")]
    stream: Option<OsString>,
    /// The most tasks in the queue; the others wait in the outbox [default: 100000]
    #[arg(long, value_name = "N", env = "OUTBOX_HIGH_WATER_MARK")]
    max_stream_size: Option<OsString>,
    /// The most tasks that are persisted, submitted or taken at once [default: 500]
    #[arg(long, value_name = "N", env = "OUTBOX_BATCH_SIZE")]
    batch_size: Option<OsString>,
    /// The most connections that read the file at once [default: 2]
    #[arg(long, value_name = "N", env = "OUTBOX_MAX_CONNECTIONS")]
    connections: Option<OsString>,
    /// How often something is tried again after its first failure [default: 8]
    #[arg(long, value_name = "N", env = "OUTBOX_MAX_RETRIES")]
    max_retries: Option<OsString>,
    /// The greatest delay before the first retry; it doubles with each, and is drawn at random
    /// [default: 200ms]
    #[arg(long, value_name = "DURATION", env = "OUTBOX_BACKOFF_BASE")]
    backoff_base: Option<OsString>,
    /// The greatest delay before any retry [default: 60s]
    #[arg(long, value_name = "DURATION", env = "OUTBOX_BACKOFF_CAP")]
    backoff_cap: Option<OsString>,
}

/// The flags of programs that handle tasks that have a variable.
#[derive(Debug, Args)]
pub(crate) struct WorkKnobs {
    /// How many tasks each worker handles at once [default: 32]
    #[arg(long, value_name = "N", env = "OUTBOX_WORKER_COUNT")]
    concurrency: Option<OsString>,
    /// How many tasks may be handled in a calendar day [default: any number]
    #[arg(long, value_name = "N", env = "OUTBOX_DAILY_LIMIT")]
    daily_limit: Option<OsString>,
    /// Whose calendar day that is, as Europe/Stockholm [default: UTC]
    #[arg(long, value_name = "ZONE", env = "OUTBOX_TIME_ZONE")]
    time_zone: Option<OsString>,
}

/// Flags of every program that have no variable.
#[derive(Debug, Args)]
pub(crate) struct Basics {
    /// What injected failures are drawn from
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
    /// End the output with one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the command line says, and what command line and environment say together, completed by
/// the programs' defaults.
pub(crate) fn read<Cli: Parser>() -> Result<(Cli, EnvConfig), Failure> {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches);
    let cli = cli.map_err(|error| Failure::Unusable(error.to_string()))?;
    let flags = flags(&Cli::command(), &matches);
    let mut variables: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    let values = flags
        .iter()
        .map(|flag| (flag.variable.clone(), flag.value.clone()));
    variables.extend(values);
    EnvConfig::from_pairs(variables)
        .map(|env| (cli, with_defaults(env)))
        .map_err(|error| Failure::Unusable(as_written(error, &flags).to_string()))
}

/// A flag on the command line that has a variable.
struct Flag {
    name: String,
    variable: OsString,
    value: OsString,
}

fn flags(command: &Command, matches: &ArgMatches) -> Vec<Flag> {
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let flag = |argument: &clap::Arg| {
        let id = argument.get_id().as_str();
        let value = matches.get_raw(id)?.next()?;
        Some(Flag {
            name: format!("--{}", argument.get_long()?),
            variable: argument.get_env().filter(|_| given(id))?.to_owned(),
            value: value.to_owned(),
        })
    };
    command.get_arguments().filter_map(flag).collect()
}

fn with_defaults(env: EnvConfig) -> EnvConfig {
    let stream = || "owm-ingestion-stream".to_owned();
    EnvConfig {
        stream: env.stream.or_else(|| Some(stream())),
        high_water_mark: env.high_water_mark.or(Some(100_000)),
        max_connections: env.max_connections.or(Some(2)),
        max_retries: env.max_retries.or(Some(8)),
        ..env
    }
}

/// Names each problem by the flag, where it was a flag that brought it.
fn as_written(mut error: ConfigError, flags: &[Flag]) -> ConfigError {
    for problem in &mut error.problems {
        let brought = |flag: &&Flag| flag.variable == problem.setting.as_str();
        if let Some(flag) = flags.iter().find(brought) {
            problem.setting.clone_from(&flag.name);
        }
    }
    error
}

/// A share, from 0 to 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let number = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    number.ok_or_else(|| "it is not a number from 0 to 1".to_owned())
}

/// The name of a run: it becomes a part of every task's id.
pub(crate) fn run(text: &str) -> Result<String, String> {
    if (1..=200).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("it is not from 1 to 200 bytes long".to_owned())
    }
}
