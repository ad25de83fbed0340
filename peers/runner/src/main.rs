//! Runs the libraries in turns on the same work, and prints how they compare.
//!
//! `peers` runs everything, `peers Q2000 R` single items, `peers --short` takes a quick look. Each
//! round of each library is a process of its own on a fresh file or server. The servers are
//! started here, on free ports of the loopback address, and stopped again.

mod plan;
mod report;
mod round;
mod servers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use plan::{Item, plan};
use report::Report;
use round::Rounds;

/// Why it could not be run.
type Problem = Box<dyn std::error::Error>;

/// What to run.
#[derive(Parser)]
struct Args {
    /// Items, as Q2000 or R; all where none is named.
    items: Vec<String>,
    /// Three rounds of less work.
    #[arg(long)]
    short: bool,
    /// Rounds of each library; their median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where files are kept: a folder on the disk that is to be measured, open to all users.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// Where the libraries' programs are; beside this one by default.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Where the report is written.
    #[arg(long, default_value = "target/bench/peers.json")]
    report: PathBuf,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

/// Runs what was asked for; answers whether every program came to its end.
fn run(args: &Args) -> Result<bool, Problem> {
    let items = chosen(args)?;
    let programs = match &args.programs {
        Some(folder) => folder.clone(),
        None => beside_this()?,
    };
    servers::all_there(&items, &programs)?;
    let rounds = Rounds {
        count: if args.short { 3 } else { args.rounds.max(1) },
        dir: args.dir.clone(),
        programs,
    };
    let mut report = Report::new();
    for item in &items {
        let results = rounds.run(item)?;
        report.add(item, &results);
    }
    report.write(&args.report)?;
    Ok(report.is_whole())
}

fn chosen(args: &Args) -> Result<Vec<Item>, Problem> {
    let all = plan(args.short);
    for name in &args.items {
        if !all.iter().any(|item| item.is(name)) {
            let known: Vec<_> = all.iter().map(|item| item.id).collect();
            return Err(format!("no item {name}; there are {}", known.join(", ")).into());
        }
    }
    let wanted = |item: &Item| args.items.is_empty() || args.items.iter().any(|name| item.is(name));
    Ok(all.into_iter().filter(wanted).collect())
}

fn beside_this() -> Result<PathBuf, Problem> {
    let this = std::env::current_exe()?;
    let folder = this.parent().ok_or("this program is in no folder")?;
    Ok(folder.to_path_buf())
}
