//! What all limiters have in common: a key, a time limit, and what is done without an answer.

use std::sync::Arc;
use std::time::Duration;

use outbox_core::error::{ConfigError, OutboxError, Result};
use outbox_core::memory::FallbackLimiter;
use outbox_core::ports::RateLimiter;
use outbox_core::time::Timestamp;

use super::RedisLimiterConfig;
use crate::error::Fault;
use crate::keys::check_text;
use crate::link::{Arg, Script};
use crate::store::RedisStore;

/// A counter on the server.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    pub(super) store: RedisStore,
    key: String,
    timeout: Duration,
}

impl Counter {
    /// The counter called `name`, of which `part` says the kind.
    pub(super) fn new(
        store: &RedisStore,
        name: &str,
        part: &str,
        config: &RedisLimiterConfig,
    ) -> Result<Self> {
        let mut error = ConfigError::default();
        check_text(&mut error, "name", name);
        config.check(&mut error);
        error.into_result()?;
        Ok(Self {
            store: store.clone(),
            key: store.keys(name).part(part),
            timeout: config.timeout,
        })
    }

    /// Runs `script` on this counter at `now`; answers its numbers.
    pub(super) async fn run(
        &self,
        script: &'static Script,
        now: Timestamp,
        numbers: &[i64],
    ) -> Result<Vec<i64>, Fault> {
        let numbers = numbers.iter().map(|one| Arg::from(one.to_string()));
        let args = std::iter::once(self.store.moment(now)).chain(numbers);
        let link = self.store.link()?.within(self.timeout);
        let reply = link.run(script, &[&self.key], args.collect()).await?;
        reply.list()?.map(|one| one.number()).collect()
    }
}

/// Wraps `limiter` in what `config` says about a server that is away.
pub(super) fn guarded(
    limiter: impl RateLimiter + 'static,
    config: &RedisLimiterConfig,
) -> Arc<dyn RateLimiter> {
    Arc::new(FallbackLimiter::new(Arc::new(limiter), config.on_failure))
}

/// A time as scripts take it, in whole microseconds.
pub(super) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// A time that a script answered.
pub(super) fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// A count of permits that a script answered.
pub(super) fn count(permits: i64) -> u32 {
    u32::try_from(permits).unwrap_or(0)
}

/// An answer that no script of ours gives.
pub(super) fn odd() -> Fault {
    Fault::Reply {
        wanted: "the numbers of a decision",
        found: "a list of another length".to_owned(),
    }
}

/// Refuses what can never be allowed, before anything is touched.
pub(super) fn check_permits(permits: u32, limit: u32) -> Result<()> {
    if permits <= limit {
        return Ok(());
    }
    Err(OutboxError::Limit {
        what: "permits in one request".to_owned(),
        actual: u64::from(permits),
        limit: u64::from(limit),
    })
}
