use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::error::{OutboxError, Result};
use crate::policy::{Quota, QuotaDecision, Window};
use crate::ports::{RateDecision, RateLimiter};
use crate::time::Timestamp;

/// Allows so many permits in each window of time, and no more; in this process' memory, shared by
/// cloning.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use outbox_core::memory::MemoryFixedWindowLimiter;
/// use outbox_core::policy::{Window, Zone};
/// use outbox_core::ports::{RateDecision, RateLimiter};
/// use outbox_core::time::Timestamp;
///
/// let zone = Zone::named("Europe/Stockholm").unwrap();
/// let limiter = MemoryFixedWindowLimiter::new(1_000, Window::CalendarDay { zone });
/// let decision = limiter.allow_request(10, Timestamp::EPOCH).await.unwrap();
/// assert_eq!(decision, RateDecision::Allowed { remaining: 990 });
/// # });
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "RedisDailyRateLimiterDao")]
pub struct MemoryFixedWindowLimiter {
    limit: u32,
    window: Window,
    /// Permits taken, by the start of their window. Callers' clocks differ at a window's edge, so
    /// the window before stays, too.
    taken: Arc<Mutex<BTreeMap<Timestamp, u32>>>,
}

impl MemoryFixedWindowLimiter {
    /// Up to `limit` permits in each `window`.
    #[must_use]
    pub fn new(limit: u32, window: Window) -> Self {
        Self {
            limit,
            window,
            taken: Arc::default(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, BTreeMap<Timestamp, u32>> {
        let guard = self.taken.lock();
        guard.unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, permits: u32, now: Timestamp) -> RateDecision {
        let bounds = self.window.bounds(now);
        let before = self.window.bounds(bounds.start - Duration::from_micros(1));
        let mut windows = self.taken();
        windows.retain(|start, _| *start >= before.start);
        let taken = windows.entry(bounds.start).or_insert(0);
        match self.limit.checked_sub(taken.saturating_add(permits)) {
            Some(remaining) => {
                *taken += permits;
                RateDecision::Allowed { remaining }
            }
            None => RateDecision::Limited {
                retry_after: bounds.end.since(now),
            },
        }
    }
}

#[async_trait]
impl RateLimiter for MemoryFixedWindowLimiter {
    async fn allow_request(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
        if permits > self.limit {
            return Err(OutboxError::Limit {
                what: "permits in one request".to_owned(),
                actual: u64::from(permits),
                limit: u64::from(self.limit),
            });
        }
        Ok(self.decide(permits, now))
    }

    async fn refund(&self, permits: u32, taken_at: Timestamp, _now: Timestamp) -> Result<()> {
        let start = self.window.bounds(taken_at).start;
        let mut windows = self.taken();
        if let Some(taken) = windows.get_mut(&start) {
            *taken = taken.saturating_sub(permits);
        }
        Ok(())
    }
}

/// Allows a steady rate with bursts (see [`Quota`]); in this process' memory, shared by cloning.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use outbox_core::memory::MemoryGcraLimiter;
/// use outbox_core::policy::Quota;
/// use outbox_core::ports::{RateDecision, RateLimiter};
/// use outbox_core::time::Timestamp;
/// use std::time::Duration;
///
/// let limiter = MemoryGcraLimiter::new(Quota::new(10, Duration::from_secs(1), 5).unwrap());
/// let decision = limiter.allow_request(5, Timestamp::EPOCH).await.unwrap();
/// assert_eq!(decision, RateDecision::Allowed { remaining: 0 });
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct MemoryGcraLimiter {
    quota: Quota,
    debt_until: Arc<Mutex<Timestamp>>,
}

impl MemoryGcraLimiter {
    /// A limiter whose whole burst is there.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self {
            quota,
            debt_until: Arc::new(Mutex::new(Timestamp::from_micros(i64::MIN))),
        }
    }

    fn debt_until(&self) -> MutexGuard<'_, Timestamp> {
        let guard = self.debt_until.lock();
        guard.unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RateLimiter for MemoryGcraLimiter {
    async fn allow_request(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
        let mut debt = self.debt_until();
        Ok(match self.quota.take(permits, *debt, now)? {
            QuotaDecision::Allowed {
                debt_until,
                remaining,
            } => {
                *debt = debt_until;
                RateDecision::Allowed { remaining }
            }
            QuotaDecision::Limited { retry_after } => RateDecision::Limited { retry_after },
        })
    }

    async fn refund(&self, permits: u32, taken_at: Timestamp, now: Timestamp) -> Result<()> {
        let mut debt = self.debt_until();
        *debt = self.quota.refund(permits, taken_at, *debt, now);
        Ok(())
    }
}
