use std::time::Duration;

use crate::error::ConfigError;
use crate::policy::{BreakerConfig, RetryPolicy};
use crate::status::OnFailure;

/// How a relay works.
#[derive(Clone, Debug, PartialEq)]
#[doc(alias = "OutboxSettings")]
pub struct RelayConfig {
    /// The smallest batch that slow publishing shrinks to; 16 by default, at least 1.
    pub batch_floor: usize,
    /// The greatest batch that is claimed or published at once; 500 by default, from
    /// [`RelayConfig::batch_floor`] to 100,000.
    #[doc(alias = "batch_size")]
    #[doc(alias = "BatchSize")]
    pub batch_ceiling: usize,
    /// How long a publish call should take: batches shrink above it and grow below; 500 ms by
    /// default.
    pub target_latency: Duration,
    /// Publish calls in flight at once for each destination; messages of one ordering key are never
    /// in two of them; 1 by default, from 1 to 1,000.
    pub concurrency: usize,
    /// How long the lease lasts unless it is extended, at a third of this time; 3 s by default. It
    /// bounds the time until another relay takes over from a dead one.
    pub lease: Duration,
    /// When a publish call counts as hanging and is dropped; 10 s by default. One that is alone in its call
    /// is charged an attempt for that, unless as much time again has gone by: then this process stood still.
    pub publish_timeout: Duration,
    /// How often and after which delays a failing message is tried.
    pub retry: RetryPolicy,
    /// What a failing message does to its ordering key.
    pub on_failure: OnFailure,
    /// When a destination counts as away.
    pub breaker: BreakerConfig,
    /// How often an idle relay looks at the outbox although nothing woke it; 30 s by default.
    #[doc(alias = "poll_interval_seconds")]
    #[doc(alias = "OUTBOX_POLL_INTERVAL")]
    pub safety_poll: Duration,
    /// How long a graceful stop waits for what is on its way; 10 s by default.
    pub grace: Duration,
    /// How long a flush waits while nothing moves before it gives up; 30 s by default.
    pub flush_patience: Duration,
    /// How long published messages (where the outbox keeps them) and idempotency keys are
    /// remembered; 7 days by default.
    #[doc(alias = "OUTBOX_RETENTION_DAYS")]
    #[doc(alias = "RetentionDays")]
    pub retention: Duration,
    /// How often the janitor purges what is older; 60 s by default.
    pub purge_interval: Duration,
    /// How many messages the janitor purges in one transaction; 500 by default, at least 1.
    pub purge_batch: usize,
    /// How long one hook may take for one report; 5 s by default.
    pub hook_timeout: Duration,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            batch_floor: 16,
            batch_ceiling: 500,
            target_latency: Duration::from_millis(500),
            concurrency: 1,
            lease: Duration::from_secs(3),
            publish_timeout: Duration::from_secs(10),
            retry: RetryPolicy::default(),
            on_failure: OnFailure::default(),
            breaker: BreakerConfig::default(),
            safety_poll: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            flush_patience: Duration::from_secs(30),
            retention: Duration::from_secs(7 * 24 * 3_600),
            purge_interval: Duration::from_secs(60),
            purge_batch: 500,
            hook_timeout: Duration::from_secs(5),
        }
    }
}

impl RelayConfig {
    /// Checks every setting against its range.
    ///
    /// # Errors
    /// All settings that are out of their range, at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut errors = ConfigError::default();
        let mut check = |fits: bool, setting: &str, problem: &str| {
            if !fits {
                errors.add(setting, problem);
            }
        };
        check(self.batch_floor >= 1, "batch_floor", "must be at least 1");
        check(
            (self.batch_floor..=100_000).contains(&self.batch_ceiling),
            "batch_ceiling",
            "must be from batch_floor to 100,000",
        );
        check(
            (1..=1_000).contains(&self.concurrency),
            "concurrency",
            "must be from 1 to 1,000",
        );
        check(
            self.retry.max_attempts >= 1,
            "retry.max_attempts",
            "must be at least 1",
        );
        check(
            self.breaker.max_failures >= 1,
            "breaker.max_failures",
            "must be at least 1",
        );
        check(self.purge_batch >= 1, "purge_batch", "must be at least 1");
        let times = [
            ("lease", self.lease),
            ("publish_timeout", self.publish_timeout),
            ("safety_poll", self.safety_poll),
            ("purge_interval", self.purge_interval),
            ("breaker.reset_timeout", self.breaker.reset_timeout),
        ];
        for (setting, time) in times {
            check(
                time >= Duration::from_millis(10),
                setting,
                "must be at least 10 ms",
            );
        }
        errors.into_result()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(RelayConfig::default().validate(), Ok(()));
    }

    #[test]
    fn every_setting_out_of_range_is_told() {
        let config = RelayConfig {
            batch_floor: 0,
            concurrency: 0,
            lease: Duration::ZERO,
            ..RelayConfig::default()
        };
        let error = config.validate().unwrap_err();
        let settings: Vec<_> = error.problems.iter().map(|p| p.setting.as_str()).collect();
        assert_eq!(settings, ["batch_floor", "concurrency", "lease"]);
    }
}
