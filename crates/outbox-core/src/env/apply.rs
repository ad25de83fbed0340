//! What the environment says, as settings of those whom it is about.
//!
//! Every field stands here, so that a new one is not forgotten: what the environment cannot set is a
//! promise that the program is built upon, or follows from something that it can.

use super::EnvConfig;
use crate::consume::{ConsumerConfig, WorkerConfig};
use crate::policy::{Backoff, BreakerConfig, RetryPolicy};
use crate::produce::ProducerConfig;
use crate::relay::RelayConfig;

impl EnvConfig {
    /// How a producer works: the defaults, replaced where the environment says something.
    #[must_use]
    pub fn producer(&self) -> ProducerConfig {
        let default = ProducerConfig::default();
        ProducerConfig {
            batch_size: self.batch_size.unwrap_or(default.batch_size),
            retry: self.retry(default.retry),
        }
    }

    /// How a relay works: the defaults, replaced where the environment says something.
    ///
    /// ```
    /// use outbox_core::env::EnvConfig;
    ///
    /// let env = EnvConfig::from_pairs([("OUTBOX_MAX_RETRIES", "8")]).unwrap();
    /// let config = env.relay();
    /// assert_eq!(config.retry.max_attempts, 9, "the first attempt is no retry");
    /// assert_eq!(config.batch_ceiling, 500);
    /// ```
    #[must_use]
    pub fn relay(&self) -> RelayConfig {
        let default = RelayConfig::default();
        // A bound that nobody has set does not cut the other that somebody has.
        let floor = self.batch_floor.unwrap_or(default.batch_floor);
        let ceiling = self.batch_size.unwrap_or(default.batch_ceiling.max(floor));
        RelayConfig {
            batch_floor: floor.min(ceiling),
            batch_ceiling: ceiling,
            target_latency: self.target_latency.unwrap_or(default.target_latency),
            concurrency: self.publish_concurrency.unwrap_or(default.concurrency),
            lease: self.lease.unwrap_or(default.lease),
            publish_timeout: self.publish_timeout.unwrap_or(default.publish_timeout),
            retry: self.retry(default.retry),
            on_failure: default.on_failure,
            breaker: self.breaker(default.breaker),
            safety_poll: self.poll_interval.unwrap_or(default.safety_poll),
            grace: self.grace_period.unwrap_or(default.grace),
            flush_patience: default.flush_patience,
            retention: self.retention.unwrap_or(default.retention),
            purge_interval: self.purge_interval.unwrap_or(default.purge_interval),
            purge_batch: self.purge_batch.unwrap_or(default.purge_batch),
            hook_timeout: self.hook_timeout.unwrap_or(default.hook_timeout),
        }
    }

    /// The layers around a handler: the defaults, replaced where the environment says something.
    #[must_use]
    pub fn consumer(&self) -> ConsumerConfig {
        let default = ConsumerConfig::default();
        let retention = self.retention.unwrap_or_default();
        let breaker = default
            .breaker
            .filter(|_| self.breaker_enabled != Some(false));
        ConsumerConfig {
            semantics: default.semantics,
            handler_timeout: self.handler_timeout.unwrap_or(default.handler_timeout),
            retry: self.retry(default.retry),
            breaker: breaker.map(|breaker| self.breaker(breaker)),
            // Claims are extended at a third of the lease, and have to live that long.
            claim_lease: default.claim_lease.max(self.lease.unwrap_or_default()),
            // What may still be sent again must still be remembered.
            remember: default.remember.max(retention.saturating_mul(2)),
        }
    }

    /// How a worker takes deliveries: the defaults, replaced where the environment says something.
    #[must_use]
    pub fn worker(&self) -> WorkerConfig {
        let default = WorkerConfig::default();
        WorkerConfig {
            concurrency: self.worker_count.unwrap_or(default.concurrency),
            prefetch: self.prefetch.unwrap_or(default.prefetch),
            batch: self.batch_size.unwrap_or(default.batch),
            serial_keys: default.serial_keys,
            lease: self.lease.unwrap_or(default.lease),
            max_takeovers: self.max_takeovers.unwrap_or(default.max_takeovers),
            safety_poll: self.poll_interval.unwrap_or(default.safety_poll),
            grace: self.grace_period.unwrap_or(default.grace),
            hook_timeout: self.hook_timeout.unwrap_or(default.hook_timeout),
        }
    }

    fn retry(&self, default: RetryPolicy) -> RetryPolicy {
        let retries = self.max_retries;
        let base = self.backoff_base.unwrap_or(default.backoff.base);
        RetryPolicy {
            max_attempts: retries.map_or(default.max_attempts, |retries| retries + 1),
            backoff: Backoff {
                base,
                // A cap that nobody has set does not cut the base that somebody has.
                cap: self.backoff_cap.unwrap_or(default.backoff.cap.max(base)),
            },
        }
    }

    fn breaker(&self, default: BreakerConfig) -> BreakerConfig {
        let longest = self.breaker_max_reset_timeout;
        BreakerConfig {
            max_failures: self.breaker_max_failures.unwrap_or(default.max_failures),
            reset_timeout: self.breaker_reset_timeout.unwrap_or(default.reset_timeout),
            max_reset_timeout: longest.unwrap_or(default.max_reset_timeout),
        }
    }
}
