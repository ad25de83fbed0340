use async_trait::async_trait;
use outbox_core::ports::{Health, HealthCheck, Queue};
use outbox_core::time::Timestamp;

use super::RedisQueue;

/// Degraded where the server was found to have lost data since the queue was opened, see
/// [`RedisQueue::losses`], or where nobody has seen a group of a fanned-out queue for long, see
/// [`crate::RedisQueueConfig::group_silence`]; unhealthy where the server does not answer.
#[async_trait]
impl HealthCheck for RedisQueue {
    fn name(&self) -> &str {
        &self.0.config.name
    }

    async fn check(&self, now: Timestamp) -> Health {
        let found = async {
            self.stats(now).await?;
            self.silent_groups().await
        };
        let mut problems = match found.await {
            Ok(problems) => problems,
            Err(error) => return Health::Unhealthy(error.to_string()),
        };
        let losses = self.losses();
        if losses > 0 {
            problems.push(format!(
                "the server lost data that it had acknowledged, {losses} times since the start"
            ));
        }
        if problems.is_empty() {
            return Health::Healthy;
        }
        Health::Degraded(problems.join("; "))
    }
}
