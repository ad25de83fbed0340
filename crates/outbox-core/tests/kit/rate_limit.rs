use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::error::BoxError;
use outbox_core::memory::{MemoryFixedWindowLimiter, MemoryGcraLimiter};
use outbox_core::ports::RateLimiter;
use outbox_core::testing::{LimiterSetup, RateLimitCapabilities, RateLimitHarness, RateLimitStore};

/// Makes memory limiters.
pub(crate) struct MemoryHarness;

#[async_trait]
impl RateLimitHarness for MemoryHarness {
    fn capabilities(&self) -> RateLimitCapabilities {
        RateLimitCapabilities::default()
    }

    async fn fresh(&self, setup: LimiterSetup) -> Result<Box<dyn RateLimitStore>, BoxError> {
        let limiter: Arc<dyn RateLimiter> = match setup {
            LimiterSetup::FixedWindow { limit, window } => {
                Arc::new(MemoryFixedWindowLimiter::new(limit, window))
            }
            LimiterSetup::Gcra(quota) => Arc::new(MemoryGcraLimiter::new(quota)),
        };
        Ok(Box::new(Store(limiter)))
    }
}

struct Store(Arc<dyn RateLimiter>);

#[async_trait]
impl RateLimitStore for Store {
    async fn open(&self) -> Result<Arc<dyn RateLimiter>, BoxError> {
        Ok(Arc::clone(&self.0))
    }
}
