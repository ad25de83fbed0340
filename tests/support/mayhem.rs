use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outbox::id::Entropy;

use super::{Finished, Program};

/// The shortest life that a process is given: it dies while it starts.
const SHORTEST: Duration = Duration::from_millis(10);

/// Kills processes at random moments, until it has killed enough of them.
pub(crate) struct Mayhem {
    entropy: Entropy,
    wanted: usize,
    killed: AtomicUsize,
}

impl Mayhem {
    /// As many kills as `OUTBOX_KILLS` says, or `kills`; moments drawn from `OUTBOX_KILL_SEED`.
    pub(crate) fn of(kills: usize) -> Self {
        let seed = variable("OUTBOX_KILL_SEED").unwrap_or(1);
        let wanted = variable("OUTBOX_KILLS").unwrap_or(kills);
        println!("{wanted} kills, OUTBOX_KILL_SEED={seed}");
        Self {
            entropy: Entropy::seeded(seed),
            wanted,
            killed: AtomicUsize::new(0),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.killed() >= self.wanted
    }

    pub(crate) fn killed(&self) -> usize {
        self.killed.load(Ordering::SeqCst)
    }

    /// A time up to `longest`; short ones are as likely as long ones, by their orders of magnitude.
    pub(crate) fn lifetime(&self, longest: Duration) -> Duration {
        let span = longest.as_secs_f64() / SHORTEST.as_secs_f64();
        SHORTEST.mul_f64(span.powf(self.entropy.fraction()))
    }

    /// Runs `program`, and kills it within `longest`; what it left where it ended before that.
    pub(crate) async fn torment(&self, program: Program, longest: Duration) -> Option<Finished> {
        let mut running = program.start();
        if running.ends_within(self.lifetime(longest)).await.is_some() {
            return Some(running.finish().await);
        }
        if running.kill().await {
            self.killed.fetch_add(1, Ordering::SeqCst);
        }
        None
    }
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}
