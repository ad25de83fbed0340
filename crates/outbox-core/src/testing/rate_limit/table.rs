use std::sync::Arc;

use super::harness::{RateLimitCapabilities, RateLimitHarness};
use super::{day, gcra, window};
use crate::testing::kit::{Case, Kit};

/// A case of the limiter's port.
pub(super) type RateLimitCase = Case<dyn RateLimitHarness, RateLimitCapabilities>;

/// Every case of [`crate::ports::RateLimiter`].
pub fn rate_limit_cases() -> impl Iterator<Item = Case<dyn RateLimitHarness, RateLimitCapabilities>>
{
    [window::CASES, day::CASES, gcra::CASES]
        .into_iter()
        .flatten()
        .copied()
}

impl Kit {
    /// Adds every case of [`crate::ports::RateLimiter`].
    #[must_use]
    pub fn rate_limit(self, harness: impl RateLimitHarness + 'static) -> Self {
        let harness: Arc<dyn RateLimitHarness> = Arc::new(harness);
        let capabilities = harness.capabilities();
        self.with("rate_limit", harness, &capabilities, rate_limit_cases())
    }
}
