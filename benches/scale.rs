use std::path::PathBuf;

use clap::Parser;
use outbox::id::Entropy;

use crate::Item;

/// Why nothing can be measured.
pub(crate) type Problem = Box<dyn std::error::Error>;

/// What to measure.
#[derive(Parser)]
pub(crate) struct Args {
    /// Work items, as P1 P4, or DLQ for all whose names begin with `DLQ-`; all where none is named.
    items: Vec<String>,
    /// Fewer rounds, fewer messages and smaller backlogs.
    #[arg(long)]
    short: bool,
    /// Rounds of each measurement, of which the median counts; 5 by default, 3 in a quick look.
    #[arg(long)]
    rounds: Option<usize>,
    /// Backlogs for P4, as `--backlogs 1000,5000000`.
    #[arg(long, value_delimiter = ',')]
    backlogs: Vec<usize>,
    /// Messages a round instead of the item's own number: a multiple of 500.
    #[arg(long)]
    messages: Option<usize>,
    /// How many seconds P10 looks on; 60 by default, 10 in a quick look.
    #[arg(long)]
    seconds: Option<u64>,
    /// Fixes all ids; by default they are different in every run.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the database files are made; a folder on the disk that is to be measured.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// Where the table is written as JSON.
    #[arg(long, default_value = "target/bench/report.json")]
    pub(crate) report: PathBuf,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs one part in a process of its own.
    #[arg(long, hide = true, num_args = 2..)]
    pub(crate) child: Vec<String>,
}

impl Args {
    /// The items that were named, in their own order.
    pub(crate) fn chosen(&self, all: &[Item]) -> Result<Vec<Item>, Problem> {
        for name in &self.items {
            if !all.iter().any(|(item, _)| is_meant(name, item)) {
                let known: Vec<_> = all.iter().map(|(item, _)| *item).collect();
                return Err(format!("no item {name}; there are {}", known.join(" ")).into());
            }
        }
        let named = |item: &str| self.items.iter().any(|name| is_meant(name, item));
        let is_chosen = |item: &&Item| self.items.is_empty() || named(item.0);
        Ok(all.iter().filter(is_chosen).copied().collect())
    }

    /// How much to measure; the folders are there from then on.
    pub(crate) fn scale(&self) -> Result<Scale, Problem> {
        if let Some(odd) = self.messages.filter(|count| count % 500 > 0) {
            return Err(format!("{odd} messages are no multiple of 500").into());
        }
        let report = self.report.parent().unwrap_or(&self.dir);
        for folder in [&self.dir, report] {
            std::fs::create_dir_all(folder)?;
        }
        Ok(Scale {
            rounds: self.rounds.unwrap_or(if self.short { 3 } else { 5 }),
            short: self.short,
            backlogs: self.backlogs.clone(),
            seed: self.seed,
            dir: self.dir.clone(),
            messages: self.messages,
            seconds: self.seconds,
        })
    }
}

/// Whether `name` is the item's, or that of the items to which it belongs.
fn is_meant(name: &str, item: &str) -> bool {
    let all = item.split_once('-').map_or(item, |(all, _)| all);
    [item, all].iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// How much to measure.
#[derive(Clone)]
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    pub(crate) short: bool,
    pub(crate) backlogs: Vec<usize>,
    pub(crate) seed: Option<u64>,
    pub(crate) dir: PathBuf,
    messages: Option<usize>,
    seconds: Option<u64>,
}

impl Scale {
    /// How many messages a round moves, where an item moves `short` in a quick look.
    pub(crate) fn messages(&self, short: usize, full: usize) -> usize {
        let own = if self.short { short } else { full };
        self.messages.unwrap_or(own)
    }

    /// How many seconds something is looked at.
    pub(crate) fn seconds(&self) -> u64 {
        let own = if self.short { 10 } else { 60 };
        self.seconds.unwrap_or(own)
    }

    /// What ids and tokens are drawn from.
    pub(crate) fn entropy(&self) -> Entropy {
        self.seed.map_or_else(Entropy::from_system, Entropy::seeded)
    }
}
