//! Measures what goes through Redis beside the limit: a hand-written client on a plain socket, one
//! thread, no driver, no leases; the same server, the same process, in turns. Prints a table, and
//! writes it to `target/bench/streams.json`.
//!
//! `cargo bench --features sqlite,redis --bench streams -- P6 P7` runs single work items, `--short`
//! takes a quick look. It starts a `redis-server` of its own on a loopback port, without persistence.
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

mod drain;
mod enqueue;
mod idle;
#[path = "../limits/raw.rs"]
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod raw;
mod relay;
#[path = "../limits/report.rs"]
mod report;
#[path = "../limits/scene.rs"]
#[allow(dead_code, reason = "the other benchmark uses more of it")]
mod scene;
mod server;
mod wire;

use clap::Parser;
use outbox::id::Entropy;
use report::Report;

/// What to measure.
#[derive(Parser)]
struct Args {
    /// Work items, as P6 P7; all where none is named.
    items: Vec<String>,
    /// Fewer rounds and fewer messages.
    #[arg(long)]
    short: bool,
    /// Rounds of each measurement; its median counts.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Where the database files are made.
    #[arg(long, default_value = "target/bench")]
    dir: std::path::PathBuf,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much to measure.
#[derive(Clone)]
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    pub(crate) short: bool,
    pub(crate) dir: std::path::PathBuf,
}

impl Scale {
    /// What ids are drawn from.
    pub(crate) fn entropy(&self) -> Entropy {
        Entropy::from_system()
    }
}

fn main() {
    let args = Args::parse();
    std::fs::create_dir_all(&args.dir).unwrap();
    let scale = Scale {
        rounds: if args.short { 3 } else { args.rounds },
        short: args.short,
        dir: args.dir,
    };
    let mut report = Report::default();
    type Item = (&'static str, fn(&Scale, &mut Report));
    let items: [Item; 7] = [
        ("P5", relay::to_stream),
        ("P6", enqueue::batches_of_500),
        ("P7", drain::no_op),
        ("P9", relay::commit_to_handler),
        ("P10", idle::processor),
        ("P11", drain::a_million),
        ("P14", drain::with_all_guarantees),
    ];
    for (name, measure) in items {
        let named = |item: &String| item.eq_ignore_ascii_case(name);
        if args.items.is_empty() || args.items.iter().any(named) {
            measure(&scale, &mut report);
        }
    }
    report.write(&scale.dir.join("streams.json"));
}
