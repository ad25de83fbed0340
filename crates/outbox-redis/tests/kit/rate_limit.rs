use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::error::BoxError;
use outbox_core::ports::RateLimiter;
use outbox_core::testing::{LimiterSetup, RateLimitCapabilities, RateLimitHarness, RateLimitStore};
use outbox_redis::{RedisFixedWindowLimiter, RedisGcraLimiter, RedisLimiterConfig};

use crate::server::{Place, Server};

/// Makes limiters.
#[derive(Default)]
pub(crate) struct RedisHarness(Server);

#[async_trait]
impl RateLimitHarness for RedisHarness {
    fn capabilities(&self) -> RateLimitCapabilities {
        RateLimitCapabilities::default()
    }

    async fn fresh(&self, setup: LimiterSetup) -> Result<Box<dyn RateLimitStore>, BoxError> {
        let place = self.0.place().await?;
        Ok(Box::new(Store { place, setup }))
    }
}

struct Store {
    place: Place,
    setup: LimiterSetup,
}

#[async_trait]
impl RateLimitStore for Store {
    async fn open(&self) -> Result<Arc<dyn RateLimiter>, BoxError> {
        let store = self.place.store().await?;
        // A machine that is busy with other tests must not look like a server that is away.
        let config = RedisLimiterConfig {
            timeout: std::time::Duration::from_secs(3),
            ..RedisLimiterConfig::default()
        };
        Ok(match self.setup.clone() {
            LimiterSetup::FixedWindow { limit, window } => Arc::new(RedisFixedWindowLimiter::new(
                &store, "kit", limit, window, config,
            )?),
            LimiterSetup::Gcra(quota) => {
                Arc::new(RedisGcraLimiter::new(&store, "kit", quota, config)?)
            }
        })
    }
}
