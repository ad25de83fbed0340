use std::time::Duration;

use crate::error::{ConfigError, OutboxError, Result};
use crate::time::Timestamp;

/// A steady rate with a burst, kept by the generic cell rate algorithm (GCRA).
///
/// All that a limiter stores is one moment, the *debt's end*: when every permit taken so far will
/// have been earned back, one at a time, each in [`Quota::interval`]. A request is allowed where
/// the debt stays within the burst. Arithmetic is exact, in whole microseconds; the interval is
/// rounded up to one, so that a rate of r permits a second is kept to within r parts in a million
/// and never exceeded. Over any span t, no more than `burst + t / interval` permits are allowed.
///
/// ```
/// use outbox_core::policy::{Quota, QuotaDecision};
/// use outbox_core::time::Timestamp;
/// use std::time::Duration;
///
/// let quota = Quota::new(10, Duration::from_secs(1), 2).unwrap();
/// let now = Timestamp::EPOCH;
/// let QuotaDecision::Allowed { debt_until, .. } = quota.take(2, now, now).unwrap() else {
///     panic!("a fresh quota allows its burst")
/// };
/// let wait = Duration::from_millis(100);
/// assert_eq!(
///     quota.take(1, debt_until, now).unwrap(),
///     QuotaDecision::Limited { retry_after: wait }
/// );
/// assert!(matches!(
///     quota.take(1, debt_until, now + wait).unwrap(),
///     QuotaDecision::Allowed { remaining: 0, .. }
/// ));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    interval: i64,
    burst: u32,
}

/// The most by which the clocks of those who share a quota may differ.
const MOST_SKEW: Duration = Duration::from_secs(60);

/// What a [`Quota`] says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaDecision {
    /// The permits are taken.
    Allowed {
        /// The new end of the debt; to be stored.
        debt_until: Timestamp,
        /// Permits left in the burst.
        remaining: u32,
    },
    /// No permit is taken; nothing is to be stored.
    Limited {
        /// How long until the same request is allowed, if nobody else takes a permit.
        retry_after: Duration,
    },
}

impl Quota {
    /// `permits` in every `period`, and up to `burst` of them at once; each at least 1, and no more
    /// than one permit a microsecond.
    ///
    /// # Errors
    /// A [`ConfigError`] with every value that is out of its range.
    pub fn new(permits: u32, period: Duration, burst: u32) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        if permits == 0 {
            error.add("permits", "is 0, but at least 1 is needed");
        }
        if burst == 0 {
            error.add("burst", "is 0, but at least 1 is needed");
        }
        let micros = i64::try_from(period.as_micros()).unwrap_or(i64::MAX);
        if micros < i64::from(permits).max(1) {
            let problem = format!("is {period:?}, but {permits} permits take a microsecond each");
            error.add("period", problem);
        }
        error.into_result()?;
        let permits = i64::from(permits);
        let interval = micros / permits + i64::from(micros % permits != 0);
        Ok(Self { interval, burst })
    }

    /// The time in which one permit is earned back.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.cost(1)
    }

    /// The most permits that are allowed at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// The time in which a whole burst is earned back: a limiter may forget a debt that ended.
    #[must_use]
    pub fn refill_time(&self) -> Duration {
        self.cost(self.burst)
    }

    /// Asks for `permits` at `now` where the debt so far ends at `debt_until`; any moment that is
    /// not after `now` means that there is none.
    ///
    /// A debt that ends more than a minute after any that could be made at `now` was made by a
    /// clock that ran ahead. It counts as none, so that such a jump limits nobody for ever; clocks
    /// that differ by less than a minute cannot cheat that way.
    ///
    /// # Errors
    /// [`OutboxError::Limit`] where `permits` is more than the burst: it can never be allowed.
    pub fn take(
        &self,
        permits: u32,
        debt_until: Timestamp,
        now: Timestamp,
    ) -> Result<QuotaDecision> {
        if permits > self.burst {
            return Err(OutboxError::Limit {
                what: "permits in one request".to_owned(),
                actual: u64::from(permits),
                limit: u64::from(self.burst),
            });
        }
        let ceiling = now + self.refill_time();
        let ran_ahead = debt_until > ceiling + MOST_SKEW;
        let debt = if ran_ahead { now } else { debt_until.max(now) };
        let debt_until = debt + self.cost(permits);
        if debt_until > ceiling {
            return Ok(QuotaDecision::Limited {
                retry_after: debt_until.since(ceiling),
            });
        }
        Ok(QuotaDecision::Allowed {
            debt_until,
            remaining: self.permits_in(ceiling.since(debt_until)),
        })
    }

    /// The end of the debt once `permits` that were taken at `taken_at` are given back at `now`.
    ///
    /// Only what the taker has not earned back since is given: a refund that comes late gives less,
    /// and never lets others exceed the quota.
    #[must_use]
    pub fn refund(
        &self,
        permits: u32,
        taken_at: Timestamp,
        debt_until: Timestamp,
        now: Timestamp,
    ) -> Timestamp {
        let unearned = self.cost(permits).saturating_sub(now.since(taken_at));
        (debt_until - unearned).max(now.min(debt_until))
    }

    fn cost(&self, permits: u32) -> Duration {
        let micros = self.interval.saturating_mul(i64::from(permits));
        Duration::from_micros(micros.unsigned_abs())
    }

    fn permits_in(&self, span: Duration) -> u32 {
        let permits = span.as_micros() / u128::from(self.interval.unsigned_abs());
        u32::try_from(permits).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn now() -> Timestamp {
        Timestamp::from_millis(1_000_000)
    }

    /// Takes permits from a quota and keeps its debt, as a limiter does.
    struct Taker(Quota, Timestamp);

    impl Taker {
        fn of(permits: u32, burst: u32) -> Self {
            Self(
                Quota::new(permits, SECOND, burst).unwrap(),
                Timestamp::EPOCH,
            )
        }

        fn take(&mut self, permits: u32, at: Timestamp) -> QuotaDecision {
            let decision = self.0.take(permits, self.1, at).unwrap();
            if let QuotaDecision::Allowed { debt_until, .. } = decision {
                self.1 = debt_until;
            }
            decision
        }

        fn takes(&mut self, permits: u32, at: Timestamp) -> bool {
            matches!(self.take(permits, at), QuotaDecision::Allowed { .. })
        }
    }

    #[test]
    fn a_burst_may_be_taken_at_once_or_one_by_one() {
        let mut whole = Taker::of(3, 7);
        assert!(whole.takes(7, now()) && !whole.takes(1, now()));
        let mut single = Taker::of(3, 7);
        assert!((0..7).all(|_| single.takes(1, now())) && !single.takes(1, now()));
    }

    #[test]
    fn permits_come_back_one_at_a_time() {
        let mut taker = Taker::of(10, 5);
        assert!(taker.takes(5, now()));
        let step = Duration::from_millis(100);
        assert!(!taker.takes(1, now() + step - Duration::from_micros(1)));
        for tick in 1..20 {
            let at = now() + step * tick;
            assert!(taker.takes(1, at) && !taker.takes(1, at), "tick {tick}");
        }
    }

    #[test]
    fn retry_after_is_exact_to_the_microsecond() {
        let mut taker = Taker::of(7, 3);
        assert!(taker.takes(3, now()));
        let QuotaDecision::Limited { retry_after } = taker.take(2, now()) else {
            panic!("the burst is spent")
        };
        assert!(!taker.takes(2, now() + retry_after - Duration::from_micros(1)));
        assert!(taker.takes(2, now() + retry_after));
    }

    #[test]
    fn more_permits_than_the_burst_is_a_limit_error() {
        let quota = Quota::new(100, SECOND, 3).unwrap();
        let error = quota.take(4, Timestamp::EPOCH, now()).unwrap_err();
        assert!(
            matches!(
                error,
                OutboxError::Limit {
                    actual: 4,
                    limit: 3,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_quota_tells_every_value_that_it_cannot_use() {
        let error = Quota::new(0, Duration::ZERO, 0).unwrap_err();
        let settings: Vec<_> = error.problems.iter().map(|p| p.setting.as_str()).collect();
        assert_eq!(settings, ["permits", "burst", "period"]);
        assert!(Quota::new(2, Duration::from_micros(1), 1).is_err());
        assert!(Quota::new(1, Duration::MAX, u32::MAX).is_ok());
    }

    #[test]
    fn a_clock_set_back_far_limits_nobody_for_ever() {
        let mut taker = Taker::of(1, 4);
        let next_year = now() + Duration::from_secs(365 * 24 * 3_600);
        assert!(taker.takes(4, next_year));
        assert!(taker.takes(4, now()) && !taker.takes(1, now()));
    }

    #[test]
    fn clocks_that_differ_a_little_cannot_cheat() {
        let mut taker = Taker::of(1, 4);
        let ahead = now() + Duration::from_secs(59);
        assert!(taker.takes(4, ahead));
        for _ in 0..3 {
            assert!(!taker.takes(1, now()) && !taker.takes(1, ahead));
        }
    }

    #[test]
    fn a_refund_at_once_undoes_the_taking() {
        let mut taker = Taker::of(10, 5);
        assert!(taker.takes(2, now()));
        let before = taker.1;
        assert!(taker.takes(3, now()));
        taker.1 = taker.0.refund(3, now(), taker.1, now());
        assert_eq!(taker.1, before);
    }

    #[test]
    fn a_refund_of_what_was_earned_back_gives_nothing() {
        let mut taker = Taker::of(10, 5);
        assert!(taker.takes(5, now()));
        let later = now() + SECOND;
        assert!(taker.takes(5, later));
        taker.1 = taker.0.refund(5, now(), taker.1, later);
        assert!(!taker.takes(1, later));
    }

    /// One step of a random life: wait, take, and perhaps give an earlier taking back.
    type Step = (u64, u32, Option<prop::sample::Index>);

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let refund = prop::option::weighted(0.2, any::<prop::sample::Index>());
        prop::collection::vec((0_u64..400_000, 1_u32..=6, refund), 1..60)
    }

    /// What stays taken after `steps`: when, and how many.
    fn live(quota: Quota, steps: &[Step]) -> Vec<(Timestamp, u32)> {
        let mut taker = Taker(quota, Timestamp::EPOCH);
        let (mut at, mut taken) = (now(), Vec::new());
        for (wait, permits, refund) in steps {
            at = at + Duration::from_micros(*wait);
            if *permits <= quota.burst() && taker.takes(*permits, at) {
                taken.push((at, *permits));
            }
            if let Some(index) = refund.as_ref().filter(|_| !taken.is_empty()) {
                let (taken_at, permits) = taken.remove(index.index(taken.len()));
                taker.1 = taker.0.refund(permits, taken_at, taker.1, at);
            }
        }
        taken
    }

    proptest! {
        #[test]
        fn no_span_sees_more_than_the_burst_and_what_it_earns(
            per_second in 1_u32..50, burst in 1_u32..10, steps in steps(),
        ) {
            let quota = Quota::new(per_second, SECOND, burst).unwrap();
            let taken = live(quota, &steps);
            for (first, (start, _)) in taken.iter().enumerate() {
                let mut sum = 0_u64;
                for (end, permits) in &taken[first..] {
                    sum += u64::from(*permits);
                    let micros = u64::try_from(end.since(*start).as_micros()).unwrap();
                    let earned = micros * u64::from(per_second) / 1_000_000;
                    prop_assert!(sum <= u64::from(burst) + earned, "{sum} in {micros} us");
                }
            }
        }

        #[test]
        fn a_denied_request_is_allowed_exactly_after_its_wait(
            per_second in 1_u32..50, burst in 1_u32..10, permits in 1_u32..10, spent in 1_u32..10,
        ) {
            prop_assume!(permits <= burst && spent <= burst);
            let quota = Quota::new(per_second, SECOND, burst).unwrap();
            let mut taker = Taker(quota, Timestamp::EPOCH);
            prop_assert!(taker.takes(spent, now()));
            if let QuotaDecision::Limited { retry_after } = taker.take(permits, now()) {
                prop_assert!(!taker.takes(permits, now() + retry_after - Duration::from_micros(1)));
                prop_assert!(taker.takes(permits, now() + retry_after));
            }
        }
    }
}
