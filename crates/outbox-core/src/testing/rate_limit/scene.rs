use std::sync::Arc;
use std::time::Duration;

use super::harness::{LimiterSetup, RateLimitCapabilities, RateLimitHarness, RateLimitStore};
use crate::error::{BoxError, OutboxError, Result};
use crate::policy::{Quota, Window};
use crate::ports::{RateDecision, RateLimiter};
use crate::testing::cut::cut;
use crate::testing::kit::{CaseResult, Requirement};
use crate::time::Timestamp;

/// When every case begins: where a minute, an hour and a day of UTC begin.
pub(super) const START: Timestamp = Timestamp::from_millis(1_800_057_600_000);

/// The smallest step of time.
pub(super) const TICK: Duration = Duration::from_micros(1);

pub(super) const MINUTE: Duration = Duration::from_secs(60);

pub(super) const WINDOWS: Requirement<RateLimitCapabilities> = Requirement {
    what: "needs fixed windows",
    met: |capabilities| capabilities.fixed_window,
};

pub(super) const WINDOWS_ON_CALLERS_TIME: Requirement<RateLimitCapabilities> = Requirement {
    what: "needs fixed windows on the caller's time",
    met: |capabilities| capabilities.fixed_window && capabilities.callers_time,
};

pub(super) const GCRA: Requirement<RateLimitCapabilities> = Requirement {
    what: "needs GCRA",
    met: |capabilities| capabilities.gcra,
};

pub(super) const GCRA_ON_CALLERS_TIME: Requirement<RateLimitCapabilities> = Requirement {
    what: "needs GCRA on the caller's time",
    met: |capabilities| capabilities.gcra && capabilities.callers_time,
};

/// A fresh limiter with one handle on it.
pub(super) struct Scene {
    pub(super) store: Box<dyn RateLimitStore>,
    pub(super) limiter: Arc<dyn RateLimiter>,
}

impl Scene {
    pub(super) async fn new(
        harness: &dyn RateLimitHarness,
        setup: LimiterSetup,
    ) -> Result<Self, BoxError> {
        let store = harness.fresh(setup).await?;
        let limiter = store.open().await?;
        Ok(Self { store, limiter })
    }

    /// A limiter of `limit` permits in each `window`.
    pub(super) async fn windows(
        harness: &dyn RateLimitHarness,
        limit: u32,
        window: Window,
    ) -> Result<Self, BoxError> {
        Self::new(harness, LimiterSetup::FixedWindow { limit, window }).await
    }

    /// A limiter of `permits` in each `period`, and up to `burst` at once.
    pub(super) async fn gcra(
        harness: &dyn RateLimitHarness,
        permits: u32,
        period: Duration,
        burst: u32,
    ) -> Result<Self, BoxError> {
        let quota = Quota::new(permits, period, burst)?;
        Self::new(harness, LimiterSetup::Gcra(quota)).await
    }

    pub(super) async fn ask(&self, permits: u32, now: Timestamp) -> Result<RateDecision> {
        self.limiter.allow_request(permits, now).await
    }

    /// Whether `permits` are allowed at `now`.
    pub(super) async fn takes(&self, permits: u32, now: Timestamp) -> Result<bool> {
        let decision = self.ask(permits, now).await?;
        Ok(matches!(decision, RateDecision::Allowed { .. }))
    }

    /// How long a request for `permits` at `now`, which is to be denied, has to wait.
    pub(super) async fn wait(&self, permits: u32, now: Timestamp) -> Result<Duration, BoxError> {
        match self.ask(permits, now).await? {
            RateDecision::Limited { retry_after } => Ok(retry_after),
            allowed => Err(format!("{permits} permits were to be denied: {allowed:?}").into()),
        }
    }

    /// How many of 64 requests for one permit each, made at once over four handles, are allowed.
    pub(super) async fn allowed_at_once(&self, now: Timestamp) -> Result<usize, BoxError> {
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let handle = self.store.open().await?;
            for _ in 0..16 {
                let handle = Arc::clone(&handle);
                requests.spawn(async move { handle.allow_request(1, now).await });
            }
        }
        let decisions: Result<Vec<_>> = requests.join_all().await.into_iter().collect();
        let decisions = decisions?.into_iter();
        let allowed = decisions.filter(|decision| matches!(decision, RateDecision::Allowed { .. }));
        Ok(allowed.count())
    }

    /// Expects a request for one permit more than `limit` to be refused for good.
    pub(super) async fn refuses_more_than(&self, limit: u32) -> CaseResult {
        match self.ask(limit + 1, START).await {
            Err(OutboxError::Limit {
                actual,
                limit: told,
                ..
            }) => {
                assert_eq!((actual, told), (u64::from(limit) + 1, u64::from(limit)));
                Ok(())
            }
            other => Err(format!("a limit error was expected: {other:?}").into()),
        }
    }
}

/// Drops requests for 3 permits of a fresh limiter's 10 after so many polls; each must have taken
/// all of them or none.
pub(super) async fn a_dropped_request_takes_all_or_nothing(
    harness: &dyn RateLimitHarness,
    setup: LimiterSetup,
) -> CaseResult {
    for polls in 0.. {
        let scene = Scene::new(harness, setup.clone()).await?;
        let request = scene.limiter.allow_request(3, START);
        let finished = cut(request, polls).await;
        let RateDecision::Allowed { remaining } = scene.ask(1, START).await? else {
            return Err("at most 3 of 10 permits were taken".into());
        };
        assert!([6, 9].contains(&remaining), "{remaining}");
        if finished.is_some() {
            break;
        }
    }
    Ok(())
}
