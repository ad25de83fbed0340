use std::time::Duration;

use crate::consume::WorkerConfig;
use crate::id::Entropy;
use crate::policy::{Backoff, BreakerConfig, RetryPolicy};
use crate::relay::RelayConfig;
use crate::status::OnFailure;

/// How often each kind of fault strikes, in per mille of the moments at which it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultRates {
    /// A call fails and had no effect.
    pub errors_before: u32,
    /// A call had its effect, and its answer is lost.
    pub errors_after: u32,
    /// Half a call takes up to 2.5 s.
    pub slow: u32,
    /// Half a call takes longer than any lease and timeout.
    pub hangs: u32,
    /// A call takes effect up to 5 s later, even where its caller is gone by then.
    pub late: u32,
    /// A destination takes only a part of a batch.
    pub partial: u32,
    /// A process is dropped at an await.
    pub crashes: u32,
    /// A process is stopped at an await, for up to three leases, and runs on afterwards.
    pub pauses: u32,
    /// The clock of one process jumps by up to 10 s, forwards or backwards.
    pub jumps: u32,
    /// A handler fails, panics, or hangs.
    pub handler: u32,
    /// A publisher panics, answers too few results, or calls the relay stale.
    pub plug_in: u32,
    /// A row or an entry becomes unreadable.
    pub damage: u32,
}

impl FaultRates {
    /// No faults at all.
    pub const NONE: Self = Self {
        errors_before: 0,
        errors_after: 0,
        slow: 0,
        hangs: 0,
        late: 0,
        partial: 0,
        crashes: 0,
        pauses: 0,
        jumps: 0,
        handler: 0,
        plug_in: 0,
        damage: 0,
    };
}

/// What keeps a repeated delivery from having a second effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// An inbox: the record that the message was handled commits with the effect. Each effect
    /// exists once.
    Inbox,
    /// A deduplication cache: best effort. Each effect exists at least once.
    Cache,
    /// None: deliveries are acknowledged before they are handled. Each effect exists at most once.
    AtMostOnce,
}

/// What a simulated world is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Relays on the outbox; 3 by default.
    pub relays: usize,
    /// Workers on the queue; 3 by default.
    pub workers: usize,
    /// Producers that append, each its share of the messages; 2 by default.
    pub producers: usize,
    /// Messages that are appended, those that handlers append on top not counted; 50 by default.
    pub messages: usize,
    /// Ordering keys that the messages are spread over; 10 by default. A fifth has none.
    pub keys: usize,
    /// How long faults go on; 15 s by default. Everything has to be done soon after.
    pub mayhem: Duration,
    /// How long after the faults everything has to be done; 40 s by default.
    pub patience: Duration,
    /// How often what goes wrong.
    pub faults: FaultRates,
    /// What guards the effects.
    pub guard: Guard,
    /// How the relays work.
    pub relay: RelayConfig,
    /// How the workers work.
    pub worker: WorkerConfig,
    /// How handlers are retried.
    pub retry: RetryPolicy,
    /// Whether the outbox keeps published messages.
    pub keep_published: bool,
    /// The most entries that the queue takes.
    pub high_water: usize,
    /// How many destinations topics are routed to, each with outages of its own, all of them doors
    /// to the same queue; 1, which means no routing, by default.
    pub destinations: u64,
    /// Whether every message goes to a second place besides, which only remembers it.
    pub mirrored: bool,
    /// Permits of the workers' limiter in each second; no limiter where `None`.
    pub limit: Option<u32>,
    /// Whether publishers take a call that relies on the one under way.
    pub relying: bool,
}

impl Scenario {
    /// A world whose parts and faults are drawn from `seed`: each seed leaves out some kinds of
    /// fault, so that others have room to show what they do.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let draw = Draw(Entropy::seeded(seed ^ 0x5EED));
        let guard = match draw.below(10) {
            0..6 => Guard::Inbox,
            6..9 => Guard::Cache,
            _ => Guard::AtMostOnce,
        };
        Self {
            relays: 3,
            workers: 3,
            producers: 2,
            messages: 50,
            keys: 10,
            mayhem: Duration::from_secs(15),
            patience: Duration::from_secs(40),
            faults: draw.faults(),
            guard,
            relay: draw.relay(),
            worker: draw.worker(),
            retry: draw.retry(),
            keep_published: draw.below(3) == 0,
            high_water: draw.one_of(&[1_000, 1_000, 12]),
            destinations: draw.one_of(&[1, 1, 3]),
            mirrored: draw.below(4) == 0,
            limit: draw.one_of(&[None, None, Some(20)]),
            relying: draw.below(2) == 0,
        }
    }
}

/// Draws the parts of a world.
struct Draw(Entropy);

impl Draw {
    fn below(&self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    fn one_of<T: Copy>(&self, choices: &[T]) -> T {
        let place = self.below(choices.len() as u64);
        choices[usize::try_from(place).unwrap_or(0)]
    }

    /// A rate up to `most`; none at all in every third world.
    fn rate(&self, most: u64) -> u32 {
        let present = self.below(3) > 0;
        let rate = u32::try_from(self.below(most) + 1).unwrap_or(1);
        if present { rate } else { 0 }
    }

    fn faults(&self) -> FaultRates {
        FaultRates {
            errors_before: self.rate(60),
            errors_after: self.rate(60),
            slow: self.rate(40),
            hangs: self.rate(4),
            late: self.rate(30),
            partial: self.rate(150),
            crashes: self.rate(30),
            pauses: self.rate(10),
            jumps: self.rate(5),
            handler: self.rate(150),
            plug_in: self.rate(40),
            damage: self.rate(4),
        }
    }

    fn retry(&self) -> RetryPolicy {
        RetryPolicy {
            max_attempts: self.one_of(&[3, 8, 1_000]),
            backoff: Backoff {
                base: Duration::from_millis(50),
                cap: Duration::from_secs(2),
            },
        }
    }

    fn relay(&self) -> RelayConfig {
        RelayConfig {
            batch_floor: 1,
            batch_ceiling: self.one_of(&[1, 4, 16]),
            concurrency: self.one_of(&[1, 1, 3]),
            publish_timeout: Duration::from_secs(self.one_of(&[2, 10])),
            retry: self.retry(),
            on_failure: self.one_of(&[
                OnFailure::BlockKey,
                OnFailure::BlockKey,
                OnFailure::ParkKey,
                OnFailure::SkipMessage,
            ]),
            breaker: BreakerConfig {
                max_reset_timeout: Duration::from_secs(4),
                ..BreakerConfig::default()
            },
            purge_interval: Duration::from_secs(10),
            retention: Duration::from_secs(40),
            ..RelayConfig::default()
        }
    }

    fn worker(&self) -> WorkerConfig {
        WorkerConfig {
            concurrency: self.one_of(&[1, 4, 32]),
            prefetch: self.one_of(&[0, 4, 64]),
            // Runs die here more often than any message may be blamed for.
            max_takeovers: 1_000,
            ..WorkerConfig::default()
        }
    }
}
