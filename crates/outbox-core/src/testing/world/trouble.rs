use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::config::FaultRates;
use crate::error::{OutboxError, Result, Transience};
use crate::id::Entropy;

/// Draws from the seed what goes wrong, and counts it.
pub(super) struct Trouble {
    entropy: Entropy,
    rates: FaultRates,
    on: AtomicBool,
    /// How often something went wrong.
    struck: AtomicU64,
}

/// How long a call that hangs takes: longer than any lease and any timeout of a world.
const HANGS: Duration = Duration::from_secs(12);

impl Trouble {
    pub(super) fn new(entropy: Entropy, rates: FaultRates) -> Self {
        Self {
            entropy,
            rates,
            on: AtomicBool::new(true),
            struck: AtomicU64::new(0),
        }
    }

    pub(super) fn rates(&self) -> &FaultRates {
        &self.rates
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    pub(super) fn stop(&self) {
        self.on.store(false, Relaxed);
    }

    pub(super) fn struck(&self) -> u64 {
        self.struck.load(Relaxed)
    }

    /// Whether a fault of this probability, in per mille, strikes now.
    pub(super) fn strikes(&self, per_mille: u32) -> bool {
        let strikes = per_mille > 0 && self.is_on() && self.below(1_000) < u64::from(per_mille);
        if strikes {
            self.struck.fetch_add(1, Relaxed);
        }
        strikes
    }

    /// A number below `end`.
    pub(super) fn below(&self, end: u64) -> u64 {
        self.entropy.next_u64() % end.max(1)
    }

    /// A time up to `longest`, in whole milliseconds.
    pub(super) fn up_to(&self, longest: Duration) -> Duration {
        let millis = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.below(millis.saturating_add(1)))
    }

    /// Takes as long as half a call takes: mostly no time at all, at times longer than a lease.
    async fn latency(&self) {
        if self.strikes(self.rates.hangs) {
            sleep(HANGS).await;
        } else if self.strikes(self.rates.slow) {
            sleep(self.up_to(Duration::from_millis(2_500))).await;
        } else if self.below(4) == 0 {
            sleep(Duration::from_millis(1 + self.below(3))).await;
        }
    }

    /// Makes one call to a store, `near`: it may fail before its effect or after it, take its time,
    /// or arrive long after its caller has died, as the same call `far`.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        near: impl Future<Output = T>,
        far: impl FnOnce() -> BoxFuture<'static, T>,
    ) -> Result<T> {
        self.latency().await;
        if self.strikes(self.rates.errors_before) {
            return Err(fault(operation));
        }
        let answer = if self.strikes(self.rates.late) {
            let (far, delay) = (far(), self.up_to(Duration::from_secs(5)));
            let late = tokio::spawn(async move {
                sleep(delay).await;
                far.await
            });
            late.await.map_err(|_| fault(operation))?
        } else {
            near.await
        };
        self.latency().await;
        if self.strikes(self.rates.errors_after) {
            return Err(fault(operation));
        }
        Ok(answer)
    }
}

/// A fault that was made on purpose.
pub(super) fn fault(operation: &'static str) -> OutboxError {
    OutboxError::Backend {
        backend: "simulated",
        operation,
        transience: Transience::Transient,
        source: "a fault on purpose".into(),
    }
}

/// Times at which a destination is away.
pub(super) struct Outages(Vec<(Instant, Instant)>);

impl Outages {
    /// Up to `most` outages within `span` from now, each up to a third of it long.
    pub(super) fn drawn(trouble: &Trouble, most: u64, span: Duration) -> Self {
        let outage = |_| {
            let from = Instant::now() + trouble.up_to(span);
            (from, from + trouble.up_to(span / 3))
        };
        Self((0..trouble.below(most + 1)).map(outage).collect())
    }

    /// Whether the destination is away now.
    pub(super) fn is_away(&self) -> bool {
        let now = Instant::now();
        self.0.iter().any(|(from, to)| (*from..*to).contains(&now))
    }
}
