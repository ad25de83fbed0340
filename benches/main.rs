//! Measures the library beside the limit: the best straight-line code for the single purpose, in
//! the same process, in turns. Prints a table, and writes it as JSON.
//!
//! What writes to SQLite does so in WAL mode with `synchronous = FULL`, unless a row says `NORMAL`,
//! ours and the limit on the same disk. What goes through Redis starts a `redis-server` of its own
//! on a loopback port, without persistence.
//!
//! `just bench` measures everything, `just bench P1 P5` single work items, `just bench --short`
//! takes a quick look.
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

mod dead_letters;
mod limits;
mod raw;
mod report;
mod scale;
mod scene;
mod settings;
mod streams;

use clap::Parser;
use report::Report;
pub(crate) use scale::Scale;
use scale::{Args, Problem};

/// What an application under load would choose, for the limit as for ours.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A work item: its name, and what measures it.
pub(crate) type Item = (&'static str, fn(&Scale, &mut Report));

fn main() -> Result<(), Problem> {
    let args = Args::parse();
    if let [part, rest @ ..] = args.child.as_slice() {
        part_of_another(part, rest);
        return Ok(());
    }
    let all = [
        limits::ITEMS,
        streams::ITEMS,
        dead_letters::ITEMS,
        settings::ITEMS,
    ]
    .concat();
    let chosen = args.chosen(&all)?;
    let scale = args.scale()?;
    let mut report = Report::default();
    for (_, measure) in chosen {
        measure(&scale, &mut report);
        report.write(&args.report);
    }
    println!("written to {}", args.report.display());
    Ok(())
}

/// What a process does that an item started.
fn part_of_another(part: &str, arguments: &[String]) {
    match part {
        "append" => limits::latency::child(arguments),
        "drain" => limits::resources::child_drain(arguments),
        "memory" => settings::child(arguments),
        "dead letters" => dead_letters::memory::child(arguments),
        other => panic!("no part {other}"),
    }
}
