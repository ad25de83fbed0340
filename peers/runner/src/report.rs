//! The table, and the same as JSON.

use std::path::Path;

use serde_json::{Value, json};

use crate::Problem;
use crate::plan::{Item, Side, Who};
use crate::round::{Outcome, Rates};
use crate::servers;

const LOCK: &str = include_str!("../../Cargo.lock");
const OXIDE_LOCK: &str = include_str!("../../oxide-outbox/Cargo.lock");

/// What was measured so far.
pub(crate) struct Report {
    rows: Vec<Value>,
    whole: bool,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self {
            rows: Vec::new(),
            whole: true,
        }
    }

    /// Whether every program came to its end.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Adds an item, and prints it.
    pub(crate) fn add(&mut self, item: &Item, outcomes: &[Outcome]) {
        println!(
            "\n{}: {}, {} in all; medians, tasks a second",
            item.id, item.what, item.count
        );
        println!(
            "  {:48} {:>6} {:>9} {:>9} {:>10} {:>9} {:>7}",
            "", "rounds", "push", "drain", "end to end", "ours is", "target"
        );
        let mut ours = None;
        for (side, outcome) in item.sides.iter().zip(outcomes) {
            let who = format!("{}, {}", name(side.who), side.how);
            let row = match outcome {
                Ok(rounds) => {
                    let rates = Rates::of(item.count, rounds);
                    if side.who == Who::Ours {
                        ours = Some(rates.end_to_end);
                    }
                    print!("  {who:48} {:>6}", rounds.len());
                    let mut row = measured(side, rates, ours);
                    row["rounds"] = rounds.len().into();
                    row
                }
                Err(problem) => {
                    self.whole = false;
                    println!("  {who:48} FAILED: {problem}");
                    json!({ "failed": problem })
                }
            };
            self.rows.push(with_names(row, item, &who));
        }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), Problem> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let report = json!({
            "servers": [servers::version("redis-server"), servers::version("postgres")],
            "rows": self.rows,
        });
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
        println!("\nwritten to {}", path.display());
        Ok(())
    }
}

/// Prints a side's rates, beside ours unless it is ours.
fn measured(side: &Side, rates: Rates, ours: Option<f64>) -> Value {
    let ratio = ours
        .filter(|_| side.who != Who::Ours)
        .map(|ours| ours / rates.end_to_end);
    let ok = ratio
        .zip(side.target)
        .map(|(ratio, target)| ratio >= target);
    println!(
        " {:>9.0} {:>9.0} {:>10.0} {:>9} {:>7} {}",
        rates.push,
        rates.drain,
        rates.end_to_end,
        times(ratio),
        times(side.target),
        ok.map_or("", |ok| if ok { "ok" } else { "MISSED" })
    );
    json!({
        "push": rates.push, "drain": rates.drain, "end_to_end": rates.end_to_end,
        "ratio": ratio, "target": side.target, "ok": ok,
    })
}

fn with_names(mut row: Value, item: &Item, who: &str) -> Value {
    row["id"] = item.id.into();
    row["variant"] = item.what.into();
    row["who"] = who.into();
    row["count"] = item.count.into();
    row
}

fn times(factor: Option<f64>) -> String {
    factor.map_or(String::new(), |factor| format!("{factor:.1}x"))
}

/// A library with its version, as it was built here.
fn name(who: Who) -> String {
    let version = match who {
        Who::Ours => return who.name().to_owned(),
        Who::ApalisSqlite | Who::ApalisRedis => locked(LOCK, who.name()),
        Who::OxideOutbox => locked(OXIDE_LOCK, "outbox-core"),
    };
    format!("{} {version}", who.name())
}

/// The version of a package in a lock file.
fn locked<'a>(lock: &'a str, package: &str) -> &'a str {
    let entry = format!("name = \"{package}\"\nversion = \"");
    lock.split_once(&entry)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("of unknown version", |(version, _)| version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_a_version() {
        for peer in [Who::ApalisSqlite, Who::ApalisRedis, Who::OxideOutbox] {
            assert!(name(peer).ends_with(".0"), "{}", name(peer));
        }
    }
}
