//! Runs simulated worlds, replays one, and plants bugs to see them found.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for its user"
)]

mod sim;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Proves the workspace.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs worlds, one for each seed; fails at the first rule that is broken.
    Sim(sim::Seeds),
    /// Runs one world, and tells all that happened in it.
    Replay {
        /// The seed to replay.
        seed: u64,
    },
}

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let proven = match command {
        Command::Sim(seeds) => sim::run(&seeds),
        Command::Replay { seed } => sim::replay(seed),
    };
    if proven {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
