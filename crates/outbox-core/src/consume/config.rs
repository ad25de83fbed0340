use std::time::Duration;

use crate::error::ConfigError;
use crate::policy::{BreakerConfig, RetryPolicy};

/// What a delivery's handling promises; chosen, not implied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Semantics {
    /// Acknowledge, then handle: a crash loses the delivery, nothing doubles it.
    AtMostOnce,
    /// Handle, then acknowledge: a crash repeats the delivery, nothing loses it.
    #[default]
    #[doc(alias = "At-Least-Once")]
    AtLeastOnce,
    /// As [`Semantics::AtLeastOnce`], with a deduplication claim or an inbox around the handler, so
    /// that a repeated delivery has no second effect.
    #[doc(alias = "idempotent_consumer")]
    #[doc(alias = "Exactly-Once")]
    EffectivelyOnce,
}

/// The layers around a handler.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerConfig {
    /// What handling promises; at least once by default.
    pub semantics: Semantics,
    /// When a handler counts as hanging and is dropped; 30 s by default.
    pub handler_timeout: Duration,
    /// How often and after which delays a failing delivery is tried.
    pub retry: RetryPolicy,
    /// Stops handling while the handler keeps failing: it opens after 20 failures in a row by
    /// default; no breaker where `None`.
    #[doc(alias = "CircuitBreakerEnabled")]
    pub breaker: Option<BreakerConfig>,
    /// How long a deduplication claim lasts unless it is extended, at a third of the worker's
    /// lease; 10 s by default.
    pub claim_lease: Duration,
    /// How long a handled id is remembered by the deduplication cache; 14 days by default. Keep it
    /// longer than the outbox's retention plus the longest retry.
    pub remember: Duration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            semantics: Semantics::default(),
            handler_timeout: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            breaker: Some(BreakerConfig {
                max_failures: 20,
                ..BreakerConfig::default()
            }),
            claim_lease: Duration::from_secs(10),
            remember: Duration::from_secs(14 * 24 * 3_600),
        }
    }
}

impl ConsumerConfig {
    pub(super) fn check(&self, guarded: bool, errors: &mut ConfigError) {
        if self.semantics == Semantics::EffectivelyOnce && !guarded {
            errors.add(
                "semantics",
                "effectively once needs a deduplication cache or an inbox",
            );
        }
        if self.retry.max_attempts < 1 {
            errors.add("retry.max_attempts", "must be at least 1");
        }
        if self.breaker.is_some_and(|breaker| breaker.max_failures < 1) {
            errors.add("breaker.max_failures", "must be at least 1");
        }
        let shortest = Duration::from_millis(10);
        for (setting, time) in [
            ("handler_timeout", self.handler_timeout),
            ("claim_lease", self.claim_lease),
        ] {
            if time < shortest {
                errors.add(setting, "must be at least 10 ms");
            }
        }
    }
}

/// How a worker takes deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Deliveries handled at once; 32 by default, from 1 to 100,000.
    #[doc(alias = "OUTBOX_WORKER_COUNT")]
    #[doc(alias = "WorkerCount")]
    pub concurrency: usize,
    /// Deliveries held ready beyond those that are being handled; 64 by default. What is held is
    /// kept from other workers, so that slow handlers want little of it. While twice as many as this
    /// and `concurrency` together wait to be settled, no more are taken.
    pub prefetch: usize,
    /// The most deliveries taken at once; 500 by default, at least 1.
    pub batch: usize,
    /// Whether deliveries of one ordering key are handled one after another; `true` by default.
    pub serial_keys: bool,
    /// How long deliveries are leased unless they are extended, at a third of this time; 3 s by
    /// default. It bounds the time until another worker takes over from a dead one.
    pub lease: Duration,
    /// How often in a row a delivery may be taken over from workers that died with it before it goes
    /// to quarantine, with the kind `takeovers`: its handler seems to kill its process; 5 by
    /// default. From the second takeover on, a worker holds fewer and fewer of them together, so that
    /// it takes no other with it: with `n` left to bear, at most 32 to the power of `n - 2`, and at
    /// least one.
    pub max_takeovers: u32,
    /// How long one call waits for deliveries, and how often an idle worker looks for those of dead
    /// ones where the queue cannot tell when, or that there are none; 30 s by default.
    pub safety_poll: Duration,
    /// How long a graceful stop waits for what is being handled; 10 s by default.
    pub grace: Duration,
    /// How long one hook may take for one report; 5 s by default.
    pub hook_timeout: Duration,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            concurrency: 32,
            prefetch: 64,
            batch: 500,
            serial_keys: true,
            lease: Duration::from_secs(3),
            max_takeovers: 5,
            safety_poll: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            hook_timeout: Duration::from_secs(5),
        }
    }
}

impl WorkerConfig {
    pub(super) fn check(&self, errors: &mut ConfigError) {
        if !(1..=100_000).contains(&self.concurrency) {
            errors.add("concurrency", "must be from 1 to 100,000");
        }
        if self.batch < 1 {
            errors.add("batch", "must be at least 1");
        }
        let shortest = Duration::from_millis(10);
        for (setting, time) in [("lease", self.lease), ("safety_poll", self.safety_poll)] {
            if time < shortest {
                errors.add(setting, "must be at least 10 ms");
            }
        }
    }
}
