use std::time::Duration;

use crate::time::Timestamp;

/// When a breaker opens, and when it tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "CircuitBreakerMaxFailures")]
#[doc(alias = "CircuitBreakerResetTimeout")]
pub struct BreakerConfig {
    /// Failures in a row that open it; 5 by default, at least 1. An answer that names the
    /// destination unavailable opens it at once.
    pub max_failures: u32,
    /// How long it stays open before one trial call; 1 s by default.
    pub reset_timeout: Duration,
    /// The longest time it stays open: the time doubles with each failed trial; 30 s by default.
    pub max_reset_timeout: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            max_failures: 5,
            reset_timeout: Duration::from_secs(1),
            max_reset_timeout: Duration::from_secs(30),
        }
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// No call passes until the given moment.
    Open {
        /// When a trial call may pass.
        until: Timestamp,
    },
    /// One trial call is under way; no other passes until its outcome is recorded, or until the
    /// given moment, after which the trial counts as vanished and another may pass.
    HalfOpen {
        /// When the trial counts as vanished.
        until: Timestamp,
    },
}

/// A breaker's answer to one who wants to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Call.
    Granted,
    /// Call once, with as little as possible: this is the trial.
    Trial,
    /// Do not call before the given moment.
    Denied {
        /// When to ask again.
        until: Timestamp,
    },
}

/// A circuit breaker: a state machine that is told the time, and told what happened.
///
/// It goes half-open only for a call that really happens, and closes only on that call's success.
///
/// ```
/// use outbox_core::policy::{Breaker, BreakerConfig, Permission};
/// use outbox_core::time::Timestamp;
///
/// let mut breaker = Breaker::new(BreakerConfig { max_failures: 1, ..Default::default() });
/// let now = Timestamp::EPOCH;
/// breaker.failed(now);
/// assert!(matches!(breaker.permit(now), Permission::Denied { .. }));
/// ```
#[derive(Clone, Debug)]
pub struct Breaker {
    config: BreakerConfig,
    state: BreakerState,
    /// When it opened, or let a trial pass.
    since: Timestamp,
    failures: u32,
    opened_in_a_row: u32,
    /// Whether the destination itself named the time that the breaker is open for.
    named: bool,
}

/// The shortest time that a destination may name, so that none is asked without end.
const SHORTEST: Duration = Duration::from_millis(10);

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            state: BreakerState::Closed,
            since: Timestamp::EPOCH,
            failures: 0,
            opened_in_a_row: 0,
            named: false,
        }
    }

    /// Where the breaker stands.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// Asks for permission to call at `now`. Whoever is granted it tells the outcome.
    pub fn permit(&mut self, now: Timestamp) -> Permission {
        if self.state == BreakerState::Closed {
            return Permission::Granted;
        }
        if let Some(until) = self.closed_until(now) {
            return Permission::Denied { until };
        }
        let until = now + self.open_time();
        self.state = BreakerState::HalfOpen { until };
        self.since = now;
        Permission::Trial
    }

    /// Until when no call passes, where none does at `now`. A clock that was set back does not tell how
    /// long ago the breaker opened: where that is still to come by more than `reset_timeout`, a trial
    /// may pass.
    #[must_use]
    pub fn closed_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state {
            BreakerState::Open { until } | BreakerState::HalfOpen { until }
                if self.since <= now + self.config.reset_timeout && now < until =>
            {
                Some(until)
            }
            _ => None,
        }
    }

    fn is_open(&self, now: Timestamp) -> bool {
        matches!(self.state, BreakerState::Open { .. }) && self.closed_until(now).is_some()
    }

    /// A call succeeded.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.opened_in_a_row = 0;
        self.state = BreakerState::Closed;
    }

    /// A call failed at `now`: in a closed breaker it counts, a failed trial opens it again.
    pub fn failed(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        let trial = matches!(self.state, BreakerState::HalfOpen { .. });
        if trial || self.failures >= self.config.max_failures {
            self.open(now);
        }
    }

    /// The destination said at `now` that it takes nothing: opens at once. Where it named a time,
    /// the breaker is open for exactly that, at least 10 ms, and no failed trial doubles it; where
    /// it named none, as after a failed trial; one that is open already stays as it is then, since
    /// the call was made before.
    pub fn unavailable(&mut self, now: Timestamp, retry_after: Option<Duration>) {
        match retry_after {
            None if self.is_open(now) => {}
            Some(wait) => {
                let until = now + wait.max(SHORTEST);
                self.state = BreakerState::Open { until };
                self.since = now;
                self.named = true;
            }
            None => self.open(now),
        }
    }

    /// Whether the breaker is open at `now` for a time that the destination named.
    #[must_use]
    pub fn waits_as_told(&self, now: Timestamp) -> bool {
        self.named && self.is_open(now)
    }

    /// The destination says at `now` that it may take something again: where it had named the time
    /// to wait, a trial may pass at once.
    pub fn invited(&mut self, now: Timestamp) {
        if self.waits_as_told(now) {
            self.state = BreakerState::Open { until: now };
        }
    }

    fn open(&mut self, now: Timestamp) {
        if !matches!(self.state, BreakerState::Open { .. }) {
            self.opened_in_a_row = self.opened_in_a_row.saturating_add(1);
        }
        self.named = false;
        let until = now + self.open_time();
        self.state = BreakerState::Open { until };
        self.since = now;
    }

    fn open_time(&self) -> Duration {
        let doublings = self.opened_in_a_row.saturating_sub(1);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let longest = self.config.max_reset_timeout.max(self.config.reset_timeout);
        self.config
            .reset_timeout
            .saturating_mul(factor)
            .min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::EPOCH + SECOND * u32::try_from(seconds).unwrap()
    }

    fn breaker(max_failures: u32) -> Breaker {
        Breaker::new(BreakerConfig {
            max_failures,
            reset_timeout: SECOND,
            max_reset_timeout: 4 * SECOND,
        })
    }

    #[test]
    fn it_opens_after_as_many_failures_in_a_row_as_configured() {
        let mut breaker = breaker(3);
        breaker.failed(at(0));
        breaker.failed(at(0));
        breaker.succeeded();
        breaker.failed(at(0));
        breaker.failed(at(0));
        assert_eq!(breaker.permit(at(0)), Permission::Granted);
        breaker.failed(at(0));
        assert_eq!(breaker.permit(at(0)), Permission::Denied { until: at(1) });
    }

    #[test]
    fn half_open_lets_one_trial_through_and_closes_on_its_success() {
        let mut breaker = breaker(1);
        breaker.failed(at(0));
        assert_eq!(breaker.permit(at(1)), Permission::Trial);
        assert!(matches!(breaker.permit(at(1)), Permission::Denied { .. }));
        breaker.succeeded();
        assert_eq!(breaker.permit(at(1)), Permission::Granted);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_keep_it_open() {
        let mut breaker = breaker(1);
        breaker.failed(at(3_600));
        assert!(matches!(
            breaker.permit(at(3_600)),
            Permission::Denied { .. }
        ));
        assert_eq!(breaker.permit(at(0)), Permission::Trial);
        assert_eq!(breaker.permit(at(0)), Permission::Denied { until: at(1) });
        breaker.failed(at(0));
        assert_eq!(breaker.permit(at(1)), Permission::Denied { until: at(2) });
        breaker.unavailable(at(3_600), Some(SECOND));
        assert!(breaker.waits_as_told(at(3_600)) && !breaker.waits_as_told(at(0)));
    }

    #[test]
    fn failed_trials_double_the_open_time_up_to_the_cap() {
        let mut breaker = breaker(1);
        breaker.failed(at(0));
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..5 {
            let BreakerState::Open { until } = breaker.state() else {
                panic!("not open")
            };
            waits.push(until.since(now).as_secs());
            now = until;
            assert_eq!(breaker.permit(now), Permission::Trial);
            breaker.failed(now);
        }
        assert_eq!(waits, [1, 2, 4, 4, 4]);
    }

    #[test]
    fn a_trial_that_vanishes_is_followed_by_another() {
        let mut breaker = breaker(1);
        breaker.failed(at(0));
        assert_eq!(breaker.permit(at(1)), Permission::Trial);
        assert_eq!(breaker.permit(at(2)), Permission::Trial);
    }

    #[test]
    fn an_unavailable_destination_opens_at_once_for_as_long_as_it_says() {
        let mut breaker = breaker(100);
        breaker.unavailable(at(0), Some(9 * SECOND));
        assert_eq!(breaker.permit(at(8)), Permission::Denied { until: at(9) });
        assert_eq!(breaker.permit(at(9)), Permission::Trial);
    }

    #[test]
    fn a_time_that_the_destination_names_is_never_doubled() {
        let mut breaker = breaker(1);
        for second in 0..10 {
            breaker.unavailable(at(second), Some(SECOND));
            let until = at(second + 1);
            assert_eq!(breaker.state(), BreakerState::Open { until });
            assert_eq!(breaker.permit(until), Permission::Trial);
        }
        breaker.unavailable(at(10), Some(Duration::ZERO));
        let until = at(10) + SHORTEST;
        assert_eq!(breaker.state(), BreakerState::Open { until });
    }

    #[test]
    fn an_invitation_ends_a_named_time_and_no_other() {
        let mut breaker = breaker(1);
        breaker.unavailable(at(0), Some(4 * SECOND));
        breaker.invited(at(1));
        assert_eq!(breaker.permit(at(1)), Permission::Trial);
        breaker.unavailable(at(1), None);
        breaker.invited(at(1));
        assert!(matches!(breaker.permit(at(1)), Permission::Denied { .. }));
    }
}
