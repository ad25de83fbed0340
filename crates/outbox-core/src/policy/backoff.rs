use std::time::Duration;

use crate::id::Entropy;

/// Exponential backoff with full jitter: the delay before attempt `n + 1` is drawn evenly from
/// `[0, min(cap, base * 2^(n - 1))]`.
///
/// Full jitter spreads retries of many messages over the whole span; see M. Brooker, "Exponential
/// Backoff And Jitter", AWS Architecture Blog, 2015.
///
/// ```
/// use outbox_core::{id::Entropy, policy::Backoff};
/// use std::time::Duration;
///
/// let backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_secs(1) };
/// assert_eq!(backoff.ceiling(1), Duration::from_millis(100));
/// assert_eq!(backoff.ceiling(5), Duration::from_secs(1));
/// assert!(backoff.delay(3, &Entropy::seeded(1)) <= Duration::from_millis(400));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "ExponentialWithJitterBackoff")]
pub struct Backoff {
    /// The greatest delay after the first failure; 200 ms by default.
    pub base: Duration,
    /// The greatest delay at all; 60 s by default.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(200),
            cap: Duration::from_secs(60),
        }
    }
}

impl Backoff {
    /// The greatest delay after `failures` failed attempts; zero after none.
    #[must_use]
    pub fn ceiling(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// A delay after `failures` failed attempts, drawn from `entropy`.
    #[must_use]
    pub fn delay(&self, failures: u32, entropy: &Entropy) -> Duration {
        self.ceiling(failures).mul_f64(entropy.fraction())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_delay_never_exceeds_its_ceiling_nor_the_cap(
            failures in 0_u32..200, base_ms in 0_u64..10_000, cap_ms in 0_u64..100_000, seed: u64,
        ) {
            let backoff = Backoff {
                base: Duration::from_millis(base_ms),
                cap: Duration::from_millis(cap_ms),
            };
            let delay = backoff.delay(failures, &Entropy::seeded(seed));
            prop_assert!(delay <= backoff.ceiling(failures));
            prop_assert!(delay <= backoff.cap);
        }

        #[test]
        fn ceilings_never_shrink_with_failures(failures in 0_u32..200) {
            let backoff = Backoff::default();
            prop_assert!(backoff.ceiling(failures) <= backoff.ceiling(failures + 1));
        }
    }

    #[test]
    fn jitter_is_full() {
        let backoff = Backoff {
            base: Duration::from_secs(1),
            cap: Duration::from_secs(1),
        };
        let entropy = Entropy::seeded(42);
        let delays: Vec<_> = (0..1_000).map(|_| backoff.delay(1, &entropy)).collect();
        let below = |ms| {
            delays
                .iter()
                .filter(|d| **d < Duration::from_millis(ms))
                .count()
        };
        assert!((60..140).contains(&below(100)), "{}", below(100));
        assert!((860..940).contains(&below(900)), "{}", below(900));
    }
}
