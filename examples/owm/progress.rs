//! How far the work has come: a bar on a terminal, a plain line for every tenth elsewhere.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use super::figures::grouped;

/// Counts tasks that were handled.
pub(crate) struct Progress {
    total: u64,
    done: AtomicU64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Progress towards `total` tasks.
    pub(crate) fn towards(total: u64) -> Self {
        Self {
            total,
            done: AtomicU64::new(0),
            bar: std::io::stderr().is_terminal().then(|| bar(total)),
        }
    }

    /// Counts one more.
    pub(crate) fn advance(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let tenths = |count: u64| (count * 10).checked_div(self.total).unwrap_or(0);
        match &self.bar {
            Some(bar) => bar.inc(1),
            None if tenths(done) > tenths(done - 1) => {
                let (percent, done, total) =
                    (tenths(done) * 10, grouped(done), grouped(self.total));
                eprintln!("{percent:>3} %  {done} of {total} handled");
            }
            None => {}
        }
    }

    /// Leaves the bar as it is, so that what follows stands below it.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}

fn bar(total: u64) -> ProgressBar {
    let form = "{bar:40} {human_pos} of {human_len} handled, {per_sec}, {elapsed}";
    let style = ProgressStyle::with_template(form).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style)
}
