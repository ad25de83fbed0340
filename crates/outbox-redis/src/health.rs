use async_trait::async_trait;
use outbox_core::ports::{Health, HealthCheck};
use outbox_core::time::Timestamp;

use crate::store::RedisStore;

/// Healthy where the server answers within the command timeout.
#[async_trait]
impl HealthCheck for RedisStore {
    fn name(&self) -> &str {
        "redis"
    }

    async fn check(&self, _now: Timestamp) -> Health {
        match self.ping().await {
            Ok(()) => Health::Healthy,
            Err(error) => Health::Unhealthy(error.to_string()),
        }
    }
}
