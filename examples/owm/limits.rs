//! How fast tasks may be handled: the weather service allows so many calls a second and a day.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox::Result;
use outbox::env::EnvConfig;
use outbox::policy::{Quota, Window, Zone};
use outbox::ports::{RateDecision, RateLimiter};
use outbox::sqlite::{SqliteFixedWindowLimiter, SqliteGcraLimiter, SqliteStore};
use outbox::time::Timestamp;

/// What all workers on the file share a limit under.
const NAME: &str = "weather-api";

/// The limiter that the settings ask for; none where they ask for none.
pub(crate) fn limiter(
    store: &SqliteStore,
    rate: Option<u32>,
    env: &EnvConfig,
) -> Result<Option<Arc<dyn RateLimiter>>> {
    let steady = rate.map(|rate| steady(store, rate)).transpose()?;
    let daily = env.daily_limit.map(|limit| daily(store, limit, env));
    Ok(match (steady, daily.transpose()?) {
        (Some(steady), Some(daily)) => Some(Arc::new(Both { daily, steady })),
        (Some(steady), None) => Some(Arc::new(steady)),
        (None, Some(daily)) => Some(Arc::new(daily)),
        (None, None) => None,
    })
}

/// So many a second, at most a tenth of them at once.
fn steady(store: &SqliteStore, rate: u32) -> Result<SqliteGcraLimiter> {
    let quota = Quota::new(rate, Duration::from_secs(1), (rate / 10).max(1))?;
    SqliteGcraLimiter::new(store, NAME, quota)
}

fn daily(store: &SqliteStore, limit: u32, env: &EnvConfig) -> Result<SqliteFixedWindowLimiter> {
    let zone = Zone::named(env.time_zone.as_deref().unwrap_or("UTC"))?;
    SqliteFixedWindowLimiter::new(store, NAME, limit, Window::CalendarDay { zone })
}

/// Allows what both limits allow.
struct Both {
    daily: SqliteFixedWindowLimiter,
    steady: SqliteGcraLimiter,
}

#[async_trait]
impl RateLimiter for Both {
    async fn allow_request(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
        let today = self.daily.allow_request(permits, now).await?;
        if matches!(today, RateDecision::Limited { .. }) {
            return Ok(today);
        }
        let at_once = self.steady.allow_request(permits, now).await;
        if !matches!(at_once, Ok(RateDecision::Allowed { .. })) {
            // What the second did not allow is not to count for the first.
            self.daily.refund(permits, now, now).await?;
        }
        at_once
    }

    async fn refund(&self, permits: u32, taken_at: Timestamp, now: Timestamp) -> Result<()> {
        self.steady.refund(permits, taken_at, now).await?;
        self.daily.refund(permits, taken_at, now).await
    }
}
