use async_trait::async_trait;
use outbox_core::ports::{Health, HealthCheck, Queue};
use outbox_core::time::Timestamp;

use super::RedisQueue;

/// Degraded where the server was found to have lost data since the queue was opened, see
/// [`RedisQueue::losses`]; unhealthy where it does not answer.
#[async_trait]
impl HealthCheck for RedisQueue {
    fn name(&self) -> &str {
        &self.0.config.name
    }

    async fn check(&self, now: Timestamp) -> Health {
        match (self.stats(now).await, self.losses()) {
            (Err(error), _) => Health::Unhealthy(error.to_string()),
            (Ok(_), 0) => Health::Healthy,
            (Ok(_), losses) => Health::Degraded(format!(
                "the server lost data that it had acknowledged, {losses} times since the start"
            )),
        }
    }
}
