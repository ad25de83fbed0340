use std::time::Duration;

use super::Backoff;
use crate::id::Entropy;
use crate::message::RetryOverride;

/// How often a failing message is tried, and how long between.
///
/// ```
/// use outbox_core::{id::Entropy, policy::RetryPolicy};
///
/// let policy = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
/// let entropy = Entropy::seeded(1);
/// assert!(policy.next_delay(1, None, &entropy).is_some());
/// assert_eq!(policy.next_delay(2, None, &entropy), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "max_retries")]
pub struct RetryPolicy {
    /// The attempts before quarantine, the first one included; 8 by default, at least 1.
    #[doc(alias = "threshold")]
    pub max_attempts: u32,
    /// The delays between them.
    #[doc(alias = "error_retry_interval_seconds")]
    pub backoff: Backoff,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 8,
            backoff: Backoff::default(),
        }
    }
}

impl RetryPolicy {
    /// The delay before the next attempt when attempt number `attempt` (from 1) has failed; `None`
    /// where it was the last. A message's own `overrides` replace parts of the policy.
    #[must_use]
    pub fn next_delay(
        &self,
        attempt: u32,
        overrides: Option<&RetryOverride>,
        entropy: &Entropy,
    ) -> Option<Duration> {
        let policy = self.with(overrides);
        (attempt < policy.max_attempts).then(|| policy.backoff.delay(attempt, entropy))
    }

    fn with(&self, overrides: Option<&RetryOverride>) -> Self {
        let Some(own) = overrides else {
            return *self;
        };
        Self {
            max_attempts: own.max_attempts.unwrap_or(self.max_attempts),
            backoff: Backoff {
                base: own.base.unwrap_or(self.backoff.base),
                cap: own.cap.unwrap_or(self.backoff.cap),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_may_bring_its_own_attempts_and_delays() {
        let own = RetryOverride {
            max_attempts: Some(1),
            base: Some(Duration::ZERO),
            ..RetryOverride::default()
        };
        let entropy = Entropy::seeded(5);
        assert_eq!(
            RetryPolicy::default().next_delay(1, Some(&own), &entropy),
            None
        );
        let patient = RetryOverride {
            max_attempts: Some(20),
            ..own
        };
        assert_eq!(
            RetryPolicy::default().next_delay(19, Some(&patient), &entropy),
            Some(Duration::ZERO)
        );
    }
}
