use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Outcome, Violation, World};

/// What many worlds came to.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// Seeds that were run.
    pub seeds: u64,
    /// Rules that were broken, by seed; the run ends soon after the first.
    pub violations: Vec<Violation>,
    /// Messages in all worlds.
    pub messages: u64,
    /// Messages that were handled.
    pub handled: u64,
    /// Messages that ended in quarantine.
    pub quarantined: u64,
    /// Processes that died and began anew.
    pub crashes: u64,
    /// Faults that struck.
    pub faults: u64,
    /// The longest that a world took after its faults had stopped.
    pub slowest: Duration,
}

impl Sweep {
    fn add(&mut self, outcome: Result<Outcome, Violation>) {
        self.seeds += 1;
        match outcome {
            Ok(outcome) => {
                self.messages += outcome.messages;
                self.handled += outcome.handled;
                self.quarantined += outcome.quarantined;
                self.crashes += outcome.crashes;
                self.faults += outcome.faults;
                self.slowest = self.slowest.max(outcome.recovered);
            }
            Err(violation) => self.violations.push(violation),
        }
    }
}

/// Runs a world for each of `seeds`, one at a time in each of `threads`, and tells `progress` after
/// every one; stops at the first violation.
///
/// A world that panics counts as a violation.
pub fn sweep(
    seeds: Range<u64>,
    threads: usize,
    world: impl Fn(u64) -> World + Sync,
    progress: impl Fn(&Sweep) + Sync,
) -> Sweep {
    let next = AtomicU64::new(seeds.start);
    let done = Mutex::new(Sweep::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end {
                return;
            }
            let outcome = run(world(seed), seed);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.add(outcome);
            progress(&done);
            if !done.violations.is_empty() {
                next.store(seeds.end, Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn run(world: World, seed: u64) -> Result<Outcome, Violation> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
    caught.unwrap_or_else(|panic| {
        Err(Violation {
            seed,
            rule: "nothing panics",
            how: crate::error::Panicked::from(panic).to_string(),
            trace: Vec::new(),
        })
    })
}
