use std::fmt;
use std::time::Duration;

use super::step::Step;
use crate::time::Timestamp;

/// How many of the last steps a violation tells.
const TOLD: usize = 40;

/// What a world came to in which every rule was kept.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The world's seed.
    pub seed: u64,
    /// Messages that were committed.
    pub messages: u64,
    /// Messages whose effect exists.
    pub handled: u64,
    /// Messages that ended in a quarantine.
    pub quarantined: u64,
    /// Processes that were dropped at an await, and began anew.
    pub crashes: u64,
    /// Faults that struck, crashes among them.
    pub faults: u64,
    /// Calls to ports.
    pub calls: u64,
    /// Virtual time that went by.
    pub lasted: Duration,
    /// How long after the faults everything was done.
    pub recovered: Duration,
    /// A number that stands for every step and its time: the same seed gives the same.
    pub fingerprint: u64,
    /// Everything that took effect, in order.
    pub trace: Vec<(Timestamp, Step)>,
}

/// A rule that was broken in a world.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed that shows it again, identically.
    pub seed: u64,
    /// The rule, as `nothing committed is lost`.
    pub rule: &'static str,
    /// How it was broken.
    pub how: String,
    /// Everything that took effect until then, in order.
    pub trace: Vec<(Timestamp, Step)>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            rule,
            how,
            trace,
        } = self;
        writeln!(f, "seed {seed}: \"{rule}\" does not hold: {how}")?;
        writeln!(f, "the last of {} steps:", trace.len())?;
        for (at, step) in trace.iter().skip(trace.len().saturating_sub(TOLD)) {
            writeln!(f, "  {at} {step:?}")?;
        }
        write!(f, "replay with: just replay {seed}")
    }
}

impl std::error::Error for Violation {}
