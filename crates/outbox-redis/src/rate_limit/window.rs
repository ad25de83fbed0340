use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::error::Result;
use outbox_core::policy::Window;
use outbox_core::ports::{RateDecision, RateLimiter};
use outbox_core::time::Timestamp;

use super::RedisLimiterConfig;
use super::permits::{Counter, check_permits, count, duration, guarded, micros, odd};
use crate::error::{At, Fault};
use crate::link::Script;
use crate::store::RedisStore;
use crate::time_source::{Drift, unsteady};

static TAKE: Script = Script::new(concat!(
    include_str!("../scripts/moment.lua"),
    include_str!("../scripts/rate_limit/window_take.lua"),
));

static REFUND: Script = Script::new(concat!(
    include_str!("../scripts/moment.lua"),
    include_str!("../scripts/rate_limit/window_refund.lua"),
));

/// How often the server may turn out to be in another window than was thought.
const ATTEMPTS: u32 = 5;

/// Allows so many permits in each window of time, and no more, to all processes on one server.
///
/// The window is the one that the server's clock is in, whatever the clocks of its clients say; its
/// bounds come from the time zone database of the client. A refund counts back to the server's
/// moment of the taking, to within the time of a round trip. The counter is one key and goes a minute
/// after its window.
///
/// ```no_run
/// # async fn example() -> outbox_core::Result<()> {
/// use outbox_core::policy::Window;
/// use outbox_core::ports::RateLimiter;
/// use outbox_core::time::{Clock, SystemClock};
/// use outbox_redis::{RedisFixedWindowLimiter, RedisLimiterConfig, RedisStore};
/// use std::time::Duration;
///
/// let store = RedisStore::open("redis://127.0.0.1").await?;
/// let (minute, config) = (Window::Fixed(Duration::from_secs(60)), RedisLimiterConfig::default());
/// let limiter = RedisFixedWindowLimiter::new(&store, "weather-api", 100, minute, config)?;
/// let decision = limiter.allow_request(10, SystemClock.now()).await?;
/// # let _ = decision;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisFixedWindowLimiter {
    limiter: Arc<dyn RateLimiter>,
    limit: u32,
    window: Window,
}

impl RedisFixedWindowLimiter {
    /// Up to `limit` permits in each `window`, counted under `name`, which those who are to share
    /// the limit give it, too.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Config`] for a name that is empty, longer than 255 bytes or has braces in it,
    /// and for a timeout out of its range.
    pub fn new(
        store: &RedisStore,
        name: &str,
        limit: u32,
        window: Window,
        config: RedisLimiterConfig,
    ) -> Result<Self> {
        let windows = Windows {
            counter: Counter::new(store, name, "window", &config)?,
            limit,
            window: window.clone(),
            drift: Drift::default(),
        };
        Ok(Self {
            limiter: guarded(windows, &config),
            limit,
            window,
        })
    }
}

#[async_trait]
impl RateLimiter for RedisFixedWindowLimiter {
    async fn allow_request(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
        self.limiter.allow_request(permits, now).await
    }

    async fn refund(&self, permits: u32, taken_at: Timestamp, now: Timestamp) -> Result<()> {
        self.limiter.refund(permits, taken_at, now).await
    }
}

impl fmt::Debug for RedisFixedWindowLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisFixedWindowLimiter")
            .field("limit", &self.limit)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// The limiter that asks the server, come what may.
struct Windows {
    counter: Counter,
    limit: u32,
    window: Window,
    drift: Drift,
}

impl Windows {
    async fn take(&self, permits: u32, now: Timestamp) -> Result<RateDecision, Fault> {
        let numbers = |start, end| vec![start, end, self.limit.into(), permits.into()];
        let answer = self.ask(&TAKE, now, now, numbers).await?;
        match answer[..] {
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
        let numbers = |start, end| vec![ago, start, end, permits.into()];
        self.ask(&REFUND, now, taken_at.min(now), numbers).await?;
        Ok(())
    }

    /// Runs `script` in the window that `at` is in on the server's clock, with the `numbers` that the
    /// window's start and end make; answers what it says after its moment.
    async fn ask(
        &self,
        script: &'static Script,
        now: Timestamp,
        at: Timestamp,
        numbers: impl Fn(i64, i64) -> Vec<i64>,
    ) -> Result<Vec<i64>, Fault> {
        for _ in 0..ATTEMPTS {
            let bounds = self.window.bounds(self.drift.apply(at));
            let numbers = numbers(bounds.start.as_micros(), bounds.end.as_micros());
            let answer = self.counter.run(script, now, &numbers).await?;
            let (moment, rest) = answer.split_first().ok_or_else(odd)?;
            self.drift.learn(at, Timestamp::from_micros(*moment));
            if !rest.is_empty() {
                return Ok(rest.to_vec());
            }
        }
        Err(unsteady("window", ATTEMPTS))
    }
}

#[async_trait]
impl RateLimiter for Windows {
    async fn allow_request(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
        check_permits(permits, self.limit)?;
        let decision = self.take(permits, now).await;
        decision.at("allow request", self.counter.store.address())
    }

    async fn refund(&self, permits: u32, taken_at: Timestamp, now: Timestamp) -> Result<()> {
        let done = self.give_back(permits, taken_at, now).await;
        done.at("refund", self.counter.store.address())
    }
}
