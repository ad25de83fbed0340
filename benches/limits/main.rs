//! Measures the library beside the limit: the best straight-line code for the single purpose, on
//! the same SQLite, in the same process, in turns. Prints a table, and writes it to
//! `target/bench/report.json`.
//!
//! Both write in WAL mode with `synchronous = FULL`, unless a row says `NORMAL`, to the same tables
//! and indexes on the same disk.
//!
//! `cargo bench --features sqlite -- P1 P5` runs single work items, `--short` takes a quick look.
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

mod append;
mod claim;
mod latency;
mod outage;
mod queue;
mod raw;
mod report;
mod resources;
mod scene;

use clap::Parser;
use outbox::id::Entropy;
use report::Report;

/// What to measure.
#[derive(Parser)]
struct Args {
    /// Work items, as P1 P4; all where none is named.
    items: Vec<String>,
    /// Fewer rounds and smaller backlogs.
    #[arg(long)]
    short: bool,
    /// Rounds of each measurement, of which the median counts; 7 by default, 3 in a quick look.
    #[arg(long)]
    rounds: Option<usize>,
    /// Backlogs for P4, as `--backlogs 1000,5000000`.
    #[arg(long, value_delimiter = ',')]
    backlogs: Vec<usize>,
    /// Messages a round for P5, P8, P11 and P12, instead of the item's own number.
    #[arg(long)]
    messages: Option<usize>,
    /// Fixes all ids; by default they are different in every run.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the database files are made; a folder on the disk that is to be measured.
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
    pub(crate) backlogs: Vec<usize>,
    pub(crate) seed: Option<u64>,
    pub(crate) dir: std::path::PathBuf,
    messages: Option<usize>,
}

impl Scale {
    /// How many messages a round moves, where an item moves `short` in a quick look.
    pub(crate) fn messages(&self, short: usize, full: usize) -> usize {
        let own = if self.short { short } else { full };
        self.messages.unwrap_or(own)
    }

    /// What ids and tokens are drawn from.
    pub(crate) fn entropy(&self) -> Entropy {
        self.seed.map_or_else(Entropy::from_system, Entropy::seeded)
    }
}

fn main() {
    let args = Args::parse();
    if let [part, rest @ ..] = args.child.as_slice() {
        return match part.as_str() {
            "append" => latency::child(rest),
            "drain" => resources::child_drain(rest),
            other => panic!("no part {other}"),
        };
    }
    std::fs::create_dir_all(&args.dir).unwrap();
    let rounds = args.rounds.unwrap_or(if args.short { 3 } else { 7 });
    let scale = Scale {
        rounds,
        short: args.short,
        backlogs: args.backlogs,
        seed: args.seed,
        dir: args.dir,
        messages: args.messages,
    };
    let mut report = Report::default();
    type Item = (&'static str, fn(&Scale, &mut Report));
    let items: [Item; 10] = [
        ("P1", append::batches),
        ("P2", append::singles),
        ("P3", append::in_transaction),
        ("P4", claim::claim_and_settle),
        ("P5", claim::relay),
        ("P8", queue::enqueue_to_handled),
        ("P9", latency::commit_to_handler),
        ("P10", resources::idle),
        ("P11", resources::memory_and_bytes),
        ("P12", outage::drain),
    ];
    for (name, measure) in items {
        if args.items.is_empty()
            || args
                .items
                .iter()
                .any(|item| item.eq_ignore_ascii_case(name))
        {
            measure(&scale, &mut report);
        }
    }
    report.write(&scale.dir.join("report.json"));
}
