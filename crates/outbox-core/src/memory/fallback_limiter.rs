use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::policy::{Pause, Quota, QuotaDecision};
use crate::ports::{RateDecision, RateLimiter};
use crate::time::Timestamp;

/// What becomes of a request while the limiter that should decide cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureMode {
    /// Fail closed: nothing is allowed.
    Closed {
        /// When to ask again, counted from the failure.
        retry_after: Duration,
    },
    /// Fail open: each process allows up to a ceiling of its own, so set it to the whole limit
    /// divided by the processes.
    Open {
        /// What one process allows.
        ceiling: Quota,
    },
}

/// A limiter that says what happens while another one fails.
///
/// Only transient errors are caught; requests that can never be allowed and broken configurations
/// are answered as they are. A limiter that failed is left alone for pauses that double from 10 ms
/// to 5 s, so that no request but the first of each waits for it.
///
/// ```
/// use outbox_core::memory::{FailureMode, FallbackLimiter, MemoryGcraLimiter};
/// use outbox_core::policy::Quota;
/// use std::{sync::Arc, time::Duration};
///
/// let quota = Quota::new(100, Duration::from_secs(1), 100).unwrap();
/// let shared = Arc::new(MemoryGcraLimiter::new(quota));
/// let closed = FailureMode::Closed { retry_after: Duration::from_secs(1) };
/// let limiter = FallbackLimiter::new(shared, closed);
/// # let _ = limiter;
/// ```
pub struct FallbackLimiter {
    inner: Arc<dyn RateLimiter>,
    mode: FailureMode,
    local: Mutex<Local>,
}

/// What this process knows by itself.
struct Local {
    debt_until: Timestamp,
    last_allowed: Option<Timestamp>,
    /// While it lasts, the inner limiter is not asked.
    pause: Pause,
}

impl FallbackLimiter {
    /// Asks `inner`, and decides as `mode` says where that fails transiently.
    #[must_use]
    pub fn new(inner: Arc<dyn RateLimiter>, mode: FailureMode) -> Self {
        let local = Mutex::new(Local {
            debt_until: Timestamp::from_micros(i64::MIN),
            last_allowed: None,
            pause: Pause::default(),
        });
        Self { inner, mode, local }
    }

    fn decide(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
        let ceiling = match self.mode {
            FailureMode::Closed { retry_after } => {
                return Ok(RateDecision::Limited { retry_after });
            }
            FailureMode::Open { ceiling } => ceiling,
        };
        if permits > ceiling.burst() {
            // The limiter that is away may allow it: this is no request to give up.
            let retry_after = ceiling.refill_time();
            return Ok(RateDecision::Limited { retry_after });
        }
        let mut local = self.local();
        Ok(match ceiling.take(permits, local.debt_until, now)? {
            QuotaDecision::Allowed {
                debt_until,
                remaining,
            } => {
                local.debt_until = debt_until;
                local.last_allowed = local.last_allowed.max(Some(now));
                RateDecision::Allowed { remaining }
            }
            QuotaDecision::Limited { retry_after } => RateDecision::Limited { retry_after },
        })
    }

    fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RateLimiter for FallbackLimiter {
    async fn allow_request(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
        if self.local().pause.until(now).is_some() {
            return self.decide(permits, now);
        }
        match self.inner.allow_request(permits, now).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(error = &error as &dyn Error, "limiter unreachable");
                self.local().pause.failed(now);
                self.decide(permits, now)
            }
            decision => {
                self.local().pause.answered();
                decision
            }
        }
    }

    /// Gives back `permits`. What may have been taken while the inner limiter was away is not given
    /// back to that one: a limiter is never made to allow more than its limit.
    async fn refund(&self, permits: u32, taken_at: Timestamp, now: Timestamp) -> Result<()> {
        if let FailureMode::Open { ceiling } = self.mode {
            let mut local = self.local();
            if local.last_allowed >= Some(taken_at) {
                local.debt_until = ceiling.refund(permits, taken_at, local.debt_until, now);
                return Ok(());
            }
        }
        self.inner.refund(permits, taken_at, now).await
    }
}

impl fmt::Debug for FallbackLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackLimiter")
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{OutboxError, Transience};
    use crate::memory::MemoryGcraLimiter;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    const SECOND: Duration = Duration::from_secs(1);

    /// A limiter of ten permits that can be away.
    struct Server {
        away: AtomicBool,
        asked: AtomicU32,
        transience: Transience,
        limiter: MemoryGcraLimiter,
    }

    impl Server {
        fn with(away: bool, transience: Transience) -> Arc<Self> {
            Arc::new(Self {
                away: AtomicBool::new(away),
                asked: AtomicU32::new(0),
                transience,
                limiter: MemoryGcraLimiter::new(Quota::new(10, SECOND, 10).unwrap()),
            })
        }

        fn away() -> Arc<Self> {
            Self::with(true, Transience::Transient)
        }

        fn answer(&self) -> Result<()> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if !self.away.load(Ordering::SeqCst) {
                return Ok(());
            }
            Err(OutboxError::Backend {
                backend: "test",
                operation: "limit",
                transience: self.transience,
                source: "away".into(),
            })
        }
    }

    #[async_trait]
    impl RateLimiter for Server {
        async fn allow_request(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
            self.answer()?;
            self.limiter.allow_request(permits, now).await
        }

        async fn refund(&self, permits: u32, taken_at: Timestamp, now: Timestamp) -> Result<()> {
            self.answer()?;
            self.limiter.refund(permits, taken_at, now).await
        }
    }

    fn open(server: &Arc<Server>) -> FallbackLimiter {
        let ceiling = Quota::new(2, SECOND, 4).unwrap();
        FallbackLimiter::new(Arc::clone(server) as _, FailureMode::Open { ceiling })
    }

    fn closed(server: &Arc<Server>) -> FallbackLimiter {
        let retry_after = SECOND;
        FallbackLimiter::new(Arc::clone(server) as _, FailureMode::Closed { retry_after })
    }

    fn allowed(remaining: u32) -> RateDecision {
        RateDecision::Allowed { remaining }
    }

    fn limited(retry_after: Duration) -> RateDecision {
        RateDecision::Limited { retry_after }
    }

    #[tokio::test]
    async fn a_limiter_that_answers_decides_alone() {
        let server = Server::with(false, Transience::Transient);
        for limiter in [open(&server), closed(&server)] {
            let decision = limiter.allow_request(5, Timestamp::EPOCH).await.unwrap();
            assert!(
                matches!(decision, RateDecision::Allowed { .. }),
                "{decision:?}"
            );
        }
        let error = closed(&server).allow_request(11, Timestamp::EPOCH).await;
        assert!(matches!(error, Err(OutboxError::Limit { .. })), "{error:?}");
    }

    #[tokio::test]
    async fn failing_closed_allows_nothing_and_says_when_to_come_back() {
        let limiter = closed(&Server::away());
        let decision = limiter.allow_request(1, Timestamp::EPOCH).await.unwrap();
        assert_eq!(decision, limited(SECOND));
    }

    #[tokio::test]
    async fn failing_open_allows_up_to_the_ceiling() {
        let limiter = open(&Server::away());
        let now = Timestamp::EPOCH;
        assert_eq!(limiter.allow_request(4, now).await.unwrap(), allowed(0));
        let decision = limiter.allow_request(1, now).await.unwrap();
        assert_eq!(decision, limited(SECOND / 2));
    }

    #[tokio::test]
    async fn more_than_the_ceiling_waits_for_the_limiter_that_is_away() {
        let limiter = open(&Server::away());
        let decision = limiter.allow_request(5, Timestamp::EPOCH).await.unwrap();
        assert_eq!(decision, limited(2 * SECOND));
    }

    #[tokio::test]
    async fn an_error_that_stays_is_not_covered_up() {
        let server = Server::with(true, Transience::Permanent);
        for limiter in [open(&server), closed(&server)] {
            let error = limiter.allow_request(1, Timestamp::EPOCH).await;
            assert!(error.is_err(), "{error:?}");
        }
    }

    #[tokio::test]
    async fn what_was_taken_here_is_not_given_back_there() {
        let server = Server::with(false, Transience::Transient);
        let limiter = open(&server);
        let now = Timestamp::EPOCH;
        assert_eq!(limiter.allow_request(10, now).await.unwrap(), allowed(0));
        server.away.store(true, Ordering::SeqCst);
        assert_eq!(limiter.allow_request(4, now).await.unwrap(), allowed(0));

        server.away.store(false, Ordering::SeqCst);
        limiter.refund(4, now, now).await.unwrap();
        let later = now + SECOND / 20;
        let decision = limiter.allow_request(1, later).await.unwrap();
        assert_eq!(decision, limited(SECOND / 20));
        server.away.store(true, Ordering::SeqCst);
        assert_eq!(limiter.allow_request(4, later).await.unwrap(), allowed(0));
    }

    #[tokio::test]
    async fn a_limiter_that_failed_is_not_asked_again_at_once() {
        let server = Server::away();
        let limiter = closed(&server);
        let now = Timestamp::EPOCH;
        for _ in 0..3 {
            assert_eq!(
                limiter.allow_request(1, now).await.unwrap(),
                limited(SECOND)
            );
        }
        assert_eq!(server.asked.load(Ordering::SeqCst), 1);
        server.away.store(false, Ordering::SeqCst);
        let later = now + SECOND / 100;
        assert_eq!(limiter.allow_request(1, later).await.unwrap(), allowed(9));
    }
}
