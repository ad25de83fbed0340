use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::error::{ConfigError, Result};
use outbox_core::policy::Quota;
use outbox_core::ports::{RateDecision, RateLimiter};
use outbox_core::time::Timestamp;

use super::RedisLimiterConfig;
use super::permits::{Counter, check_permits, count, duration, guarded, micros, odd};
use crate::error::{At, Fault};
use crate::link::Script;
use crate::store::RedisStore;

static TAKE: Script = Script::new(concat!(
    include_str!("../scripts/moment.lua"),
    include_str!("../scripts/rate_limit/debt.lua"),
    include_str!("../scripts/rate_limit/gcra_take.lua"),
));

static REFUND: Script = Script::new(concat!(
    include_str!("../scripts/moment.lua"),
    include_str!("../scripts/rate_limit/debt.lua"),
    include_str!("../scripts/rate_limit/gcra_refund.lua"),
));

/// The longest time in which a burst may be earned back: microseconds beyond it are not exact in a
/// script.
const LONGEST_REFILL: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// Allows a steady rate with bursts (see [`Quota`]) to all processes on one server, on the server's
/// clock.
///
/// All that is stored is one moment, which expires when it is past.
///
/// ```no_run
/// # async fn example() -> outbox_core::Result<()> {
/// use outbox_core::policy::Quota;
/// use outbox_core::ports::RateLimiter;
/// use outbox_core::time::{Clock, SystemClock};
/// use outbox_redis::{RedisGcraLimiter, RedisLimiterConfig, RedisStore};
/// use std::time::Duration;
///
/// let store = RedisStore::open("redis://127.0.0.1").await?;
/// let (quota, config) = (Quota::new(10, Duration::from_secs(1), 5)?, RedisLimiterConfig::default());
/// let limiter = RedisGcraLimiter::new(&store, "weather-api", quota, config)?;
/// let decision = limiter.allow_request(5, SystemClock.now()).await?;
/// # let _ = decision;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisGcraLimiter {
    limiter: Arc<dyn RateLimiter>,
    quota: Quota,
}

impl RedisGcraLimiter {
    /// What `quota` allows, counted under `name`, which those who are to share it give it, too.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Config`] for a name that is empty, longer than 255 bytes or has
    /// braces in it, for a timeout out of its range, and for a burst that takes more than a century
    /// to be earned back.
    pub fn new(
        store: &RedisStore,
        name: &str,
        quota: Quota,
        config: RedisLimiterConfig,
    ) -> Result<Self> {
        if quota.refill_time() > LONGEST_REFILL {
            let mut error = ConfigError::default();
            error.add("quota", "takes more than 100 years to earn its burst back");
            return Err(error.into());
        }
        let counter = Counter::new(store, name, "debt", &config)?;
        Ok(Self {
            limiter: guarded(Debt { counter, quota }, &config),
            quota,
        })
    }
}

#[async_trait]
impl RateLimiter for RedisGcraLimiter {
    async fn allow_request(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
        self.limiter.allow_request(permits, now).await
    }

    async fn refund(&self, permits: u32, taken_at: Timestamp, now: Timestamp) -> Result<()> {
        self.limiter.refund(permits, taken_at, now).await
    }
}

impl fmt::Debug for RedisGcraLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisGcraLimiter")
            .field("quota", &self.quota)
            .finish_non_exhaustive()
    }
}

/// The limiter that asks the server, come what may.
struct Debt {
    counter: Counter,
    quota: Quota,
}

impl Debt {
    async fn take(&self, permits: u32, now: Timestamp) -> Result<RateDecision, Fault> {
        let quota = &self.quota;
        let interval = micros(quota.interval());
        let numbers = [interval, quota.burst().into(), permits.into()];
        match self.counter.run(&TAKE, now, &numbers).await?[..] {
            [1, left] => Ok(RateDecision::Allowed {
                remaining: count(left),
            }),
            [0, wait] => Ok(RateDecision::Limited {
                retry_after: duration(wait),
            }),
            _ => Err(odd()),
        }
    }

    async fn give_back(
        &self,
        permits: u32,
        taken_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let ago = micros(now.since(taken_at));
        let numbers = [micros(self.quota.interval()), permits.into(), ago];
        self.counter.run(&REFUND, now, &numbers).await.map(drop)
    }
}

#[async_trait]
impl RateLimiter for Debt {
    async fn allow_request(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
        check_permits(permits, self.quota.burst())?;
        let decision = self.take(permits, now).await;
        decision.at("allow request", self.counter.store.address())
    }

    async fn refund(&self, permits: u32, taken_at: Timestamp, now: Timestamp) -> Result<()> {
        let done = self.give_back(permits, taken_at, now).await;
        done.at("refund", self.counter.store.address())
    }
}
