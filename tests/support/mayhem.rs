use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use outbox::id::Entropy;
use tokio::time::sleep;

use super::{Finished, Program, is_done};

/// How long the longest life of a killed producer or relay is, and of a worker.
const PRODUCER: Duration = Duration::from_millis(1_500);
pub(crate) const WORKER: Duration = Duration::from_secs(4);

/// The shortest life that a process is given: it dies while it starts.
const SHORTEST: Duration = Duration::from_millis(10);

/// One in so many processes is put to sleep before it is killed, and for how long: a lease is 3 s.
const AWAKE: u64 = 16;
const ASLEEP: Duration = Duration::from_millis(3_500);

/// Kills processes at random moments, until it has killed enough of them.
pub(crate) struct Mayhem {
    entropy: Entropy,
    wanted: usize,
    killed: AtomicUsize,
    stopped: AtomicUsize,
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
            stopped: AtomicUsize::new(0),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.killed() >= self.wanted
    }

    pub(crate) fn killed(&self) -> usize {
        self.killed.load(Ordering::SeqCst)
    }

    /// How many were put to sleep, wherever they were, beyond the end of their leases.
    pub(crate) fn stopped(&self) -> usize {
        self.stopped.load(Ordering::SeqCst)
    }

    /// A time up to `longest`; short ones are as likely as long ones, by their orders of magnitude.
    pub(crate) fn lifetime(&self, longest: Duration) -> Duration {
        let span = longest.as_secs_f64() / SHORTEST.as_secs_f64();
        SHORTEST.mul_f64(span.powf(self.entropy.fraction()))
    }

    /// Starts run after run, called `name` and a number, and kills the producer now and then; how
    /// many were begun.
    pub(crate) async fn torment_producers(
        &self,
        name: &str,
        producer: impl Fn(&str) -> Program,
    ) -> usize {
        let mut run = 1;
        while !self.is_over() {
            let program = producer(&format!("{name}{run}"));
            let ended = self.torment(program, PRODUCER).await;
            run += usize::from(ended.is_some_and(is_done));
        }
        run
    }

    /// Starts relay after relay, and kills them now and then.
    pub(crate) async fn torment_relays(&self, relay: impl Fn() -> Program) {
        while !self.is_over() {
            self.torment(relay(), PRODUCER).await.map(is_done);
        }
    }

    /// Runs `program`, and kills it within `longest`; what it left where it ended before that. Now and
    /// then it is put to sleep first, and wakes up when its leases are gone.
    pub(crate) async fn torment(&self, program: Program, longest: Duration) -> Option<Finished> {
        let mut running = program.start();
        if self.entropy.next_u64().is_multiple_of(AWAKE) {
            if running.ends_within(self.lifetime(longest)).await.is_some() {
                return Some(running.finish().await);
            }
            running.signal("STOP").await;
            sleep(ASLEEP).await;
            running.signal("CONT").await;
            self.stopped.fetch_add(1, Ordering::SeqCst);
        }
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
