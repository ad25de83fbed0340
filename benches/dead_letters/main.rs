//! Measures quarantining and redriving of many messages in an SQLite file, what it takes of memory,
//! and what it leaves to publishing. Prints a table, and writes it to
//! `target/bench/dead_letters.json`.
//!
//! `cargo bench --features sqlite,dlq --bench dead_letters -- rates memory` runs single parts,
//! `--short` takes a quick look.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]
#![allow(
    clippy::panic,
    reason = "a benchmark that cannot run has nobody to tell"
)]

mod beside;
mod given;
mod memory;
mod rates;
#[path = "../limits/report.rs"]
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod report;
#[path = "../limits/scene.rs"]
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod scene;

use clap::Parser;
use outbox::id::Entropy;
use report::Report;

/// The work item that every row is about.
const ID: &str = "DLQ";

/// What to measure.
#[derive(Parser)]
struct Args {
    /// Parts: rates, count, memory, publishing; all where none is named.
    items: Vec<String>,
    /// Fewer rounds and a tenth of the messages.
    #[arg(long)]
    short: bool,
    /// Rounds of each measurement; its median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where the database files are made.
    #[arg(long, default_value = "target/bench")]
    dir: std::path::PathBuf,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs one part in a process of its own.
    #[arg(long, hide = true, num_args = 2..)]
    child: Vec<String>,
}

/// How much to measure.
#[derive(Clone)]
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    pub(crate) short: bool,
    pub(crate) dir: std::path::PathBuf,
}

impl Scale {
    /// How many messages stand for `full` of them.
    pub(crate) fn messages(&self, full: usize) -> usize {
        if self.short { full / 10 } else { full }
    }

    /// What ids are drawn from.
    pub(crate) fn entropy(&self) -> Entropy {
        Entropy::from_system()
    }
}

fn main() {
    let args = Args::parse();
    if !args.child.is_empty() {
        return memory::child(&args.child);
    }
    std::fs::create_dir_all(&args.dir).unwrap();
    let scale = Scale {
        rounds: if args.short { 3 } else { args.rounds },
        short: args.short,
        dir: args.dir,
    };
    let mut report = Report::default();
    type Item = (&'static str, fn(&Scale, &mut Report));
    let items: [Item; 4] = [
        ("rates", rates::there_and_back),
        ("count", rates::count),
        ("memory", memory::peak),
        ("publishing", beside::publishing),
    ];
    for (name, measure) in items {
        let named = |item: &String| item.eq_ignore_ascii_case(name);
        if args.items.is_empty() || args.items.iter().any(named) {
            measure(&scale, &mut report);
        }
    }
    report.write(&scale.dir.join("dead_letters.json"));
}
