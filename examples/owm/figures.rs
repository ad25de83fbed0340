//! What a program has done, as a table and as one line of JSON.

use std::time::Duration;

use serde::Serialize;

/// The figures of one run of a program; zero or none where the program does no such thing.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// Tasks that were generated.
    pub(crate) produced: u64,
    /// Tasks that were added to the outbox.
    pub(crate) persisted: u64,
    /// Messages that went from the outbox to the queue.
    pub(crate) flushed: u64,
    /// Tasks that took effect.
    pub(crate) handled: u64,
    /// Attempts that failed and were followed by another.
    pub(crate) retried: u64,
    /// What came again and was recognized: it was there already, or was handled before.
    pub(crate) duplicates: u64,
    /// Tasks that are nowhere: never anything but 0.
    pub(crate) lost: u64,
    /// How long it all took.
    pub(crate) seconds: f64,
    /// The median time from the commit of a task to its effect.
    pub(crate) p50_ms: Option<f64>,
    /// The time from commit to effect that 99 of 100 tasks keep.
    pub(crate) p99_ms: Option<f64>,
}

impl Figures {
    /// Prints the table, and the line of JSON where it is asked for.
    pub(crate) fn tell(&self, json: bool) {
        for (name, value) in self.rows() {
            println!("{name:<12}{value:>12}");
        }
        if let (true, Ok(line)) = (json, serde_json::to_string(self)) {
            println!("{line}");
        }
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let counts = [
            ("produced", self.produced),
            ("persisted", self.persisted),
            ("flushed", self.flushed),
            ("handled", self.handled),
            ("retried", self.retried),
            ("duplicates", self.duplicates),
            ("lost", self.lost),
        ];
        let mut rows: Vec<_> = counts.map(|(name, count)| (name, grouped(count))).into();
        rows.push(("seconds", format!("{:.2}", self.seconds)));
        let moved = self.handled.max(self.flushed);
        if moved > 0 && self.seconds > 0.0 {
            let rate = (moved as f64 / self.seconds).round() as u64;
            rows.push(("throughput", format!("{}/s", grouped(rate))));
        }
        for (name, millis) in [("p50", self.p50_ms), ("p99", self.p99_ms)] {
            rows.extend(millis.map(|millis| (name, format!("{millis:.1} ms"))));
        }
        rows
    }
}

/// The value that `share` of all `durations` do not exceed, in milliseconds.
pub(crate) fn percentile(durations: &mut [Duration], share: f64) -> Option<f64> {
    durations.sort_unstable();
    let rank = (durations.len() as f64 * share).ceil() as usize;
    let duration = durations.get(rank.saturating_sub(1))?;
    Some((duration.as_secs_f64() * 1e6).round() / 1e3)
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
