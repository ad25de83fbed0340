//! Limiters on the clocks of real servers, and what becomes of them when those fail. What they
//! promise at all stands in the kit.

mod faults;
mod server_time;

use std::sync::Arc;
use std::time::Duration;

use outbox_core::error::BoxError;
use outbox_core::policy::{Quota, Window};
use outbox_core::ports::{RateDecision, RateLimiter};
use outbox_core::time::Timestamp;
use outbox_redis::{
    RedisFixedWindowLimiter, RedisGcraLimiter, RedisLimiterConfig, RedisOptions, RedisStore,
};
use outbox_redis_harness::{RedisServer, Wire};

type Tested = Result<(), BoxError>;

const SECOND: Duration = Duration::from_secs(1);

const HOUR: Duration = Duration::from_secs(3_600);

/// A moment that no server's clock has: what callers believe does not matter.
const NOW: Timestamp = Timestamp::from_millis(1_000);

/// A machine that is busy with other tests must not look like a server that is away.
fn patient() -> RedisLimiterConfig {
    RedisLimiterConfig {
        timeout: SECOND * 3,
        ..RedisLimiterConfig::default()
    }
}

/// A limiter of each kind on `store`: ten permits at once, and no more for an hour.
fn limiters(
    store: &RedisStore,
    config: RedisLimiterConfig,
) -> Result<[Arc<dyn RateLimiter>; 2], BoxError> {
    let quota = Quota::new(1, HOUR, 10)?;
    // As long as no calendar has an end: no server's clock comes to the end of it.
    let window = Window::Fixed(HOUR * 24 * 36_500);
    Ok([
        Arc::new(RedisFixedWindowLimiter::new(
            store, "window", 10, window, config,
        )?),
        Arc::new(RedisGcraLimiter::new(store, "steady", quota, config)?),
    ])
}

async fn takes(limiter: &dyn RateLimiter, permits: u32) -> Result<bool, BoxError> {
    let decision = limiter.allow_request(permits, NOW).await?;
    Ok(matches!(decision, RateDecision::Allowed { .. }))
}

/// The keys on the server that have no end.
async fn endless(wire: &mut Wire) -> Result<Vec<String>, BoxError> {
    let mut endless = Vec::new();
    for key in wire.command(&["KEYS", "*"]).await?.list() {
        let key = key.text().ok_or("a key is a text")?;
        if wire.command(&["PTTL", &key]).await?.number() < Some(0) {
            endless.push(key);
        }
    }
    Ok(endless)
}
