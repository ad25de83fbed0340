use async_trait::async_trait;
use outbox_core::error::Result;
use outbox_core::policy::{Window, Zone};
use outbox_core::ports::{RateDecision, RateLimiter};
use outbox_core::time::Timestamp;

use super::{RedisFixedWindowLimiter, RedisLimiterConfig};
use crate::store::RedisStore;

/// Allows so many permits in each calendar day of a named time zone, to all processes on one server.
///
/// A day is one of the zone's: of 23 or 25 hours where its clocks change. Name the zone of whoever
/// grants the quota. It is a [`RedisFixedWindowLimiter`] with days for windows.
///
/// ```no_run
/// # async fn example() -> outbox_core::Result<()> {
/// use outbox_core::policy::Zone;
/// use outbox_core::ports::RateLimiter;
/// use outbox_core::time::{Clock, SystemClock};
/// use outbox_redis::{RedisDailyRateLimiter, RedisLimiterConfig, RedisStore};
///
/// let store = RedisStore::open("redis://127.0.0.1").await?;
/// let (zone, config) = (Zone::named("Europe/Stockholm")?, RedisLimiterConfig::default());
/// let limiter = RedisDailyRateLimiter::new(&store, "weather-api", 1_000, zone, config)?;
/// let decision = limiter.allow_request(10, SystemClock.now()).await?;
/// # let _ = decision;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "RedisDailyRateLimiterDao")]
pub struct RedisDailyRateLimiter(RedisFixedWindowLimiter);

impl RedisDailyRateLimiter {
    /// Up to `limit` permits in each day of `zone`, counted under `name`, which those who are to
    /// share the limit give it, too.
    ///
    /// # Errors
    /// As [`RedisFixedWindowLimiter::new`].
    pub fn new(
        store: &RedisStore,
        name: &str,
        limit: u32,
        zone: Zone,
        config: RedisLimiterConfig,
    ) -> Result<Self> {
        let window = Window::CalendarDay { zone };
        RedisFixedWindowLimiter::new(store, name, limit, window, config).map(Self)
    }
}

#[async_trait]
impl RateLimiter for RedisDailyRateLimiter {
    async fn allow_request(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
        self.0.allow_request(permits, now).await
    }

    async fn refund(&self, permits: u32, taken_at: Timestamp, now: Timestamp) -> Result<()> {
        self.0.refund(permits, taken_at, now).await
    }
}
