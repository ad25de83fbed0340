use std::time::Duration;

use async_trait::async_trait;
use outbox_core::error::{PublishError, Result};
use outbox_core::lease::Receipt;
use outbox_core::message::Message;
use outbox_core::ports::{
    DeliverySettlement, DequeueReport, DequeueRequest, Enqueued, Queue, RecoverRequest,
};
use outbox_core::report::{QueueStats, SettleReport};
use outbox_core::signal::Wake;
use outbox_core::status::Ordering;
use outbox_core::time::Timestamp;

use super::RedisQueue;

#[async_trait]
impl Queue for RedisQueue {
    fn name(&self) -> &str {
        &self.0.config.name
    }

    fn ordering(&self) -> Ordering {
        Ordering::Commit
    }

    fn room(&self) -> Option<Wake> {
        Some(self.0.room.clone())
    }

    async fn enqueue(&self, messages: &[Message]) -> Vec<Result<Enqueued, PublishError>> {
        self.add(messages).await
    }

    async fn dequeue(&self, request: &DequeueRequest) -> Result<DequeueReport> {
        self.tell("dequeue", self.take(request).await)
    }

    async fn settle(
        &self,
        settlements: &[DeliverySettlement],
        now: Timestamp,
    ) -> Result<SettleReport> {
        self.tell("settle", self.conclude(settlements, now).await)
    }

    async fn extend(
        &self,
        receipts: &[Receipt],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Receipt>> {
        self.tell("extend", self.lengthen(receipts, lease, now).await)
    }

    async fn recover_stuck(&self, request: &RecoverRequest) -> Result<DequeueReport> {
        self.tell("recover", self.take_over(request).await)
    }

    async fn stats(&self, now: Timestamp) -> Result<QueueStats> {
        self.tell("stats", self.count(now).await)
    }
}
