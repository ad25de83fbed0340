use std::sync::Arc;

use async_trait::async_trait;

use crate::error::PublishError;
use crate::message::Message;
use crate::ports::{Publisher, Queue};
use crate::signal::Wake;
use crate::status::Ordering;

/// Publishes into a [`Queue`]: the way from an outbox to workers.
///
/// A message that the queue knows already counts as published, so that repeating a batch after a
/// lost reply does no harm.
#[derive(Clone)]
pub struct QueuePublisher {
    queue: Arc<dyn Queue>,
}

impl QueuePublisher {
    /// A publisher into `queue`, under the queue's name.
    #[must_use]
    pub fn new(queue: Arc<dyn Queue>) -> Self {
        Self { queue }
    }
}

#[async_trait]
impl Publisher for QueuePublisher {
    fn name(&self) -> &str {
        self.queue.name()
    }

    fn ordering(&self) -> Ordering {
        self.queue.ordering()
    }

    fn rooms(&self) -> Vec<(String, Wake)> {
        let room = self.queue.room();
        room.map(|wake| (self.name().to_owned(), wake))
            .into_iter()
            .collect()
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let answers = self.queue.enqueue(messages).await;
        answers.into_iter().map(|answer| answer.map(drop)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::error::Result;
    use crate::id::MessageId;
    use crate::lease::Receipt;
    use crate::ports::{
        DeliverySettlement, DequeueReport, DequeueRequest, Enqueued, RecoverRequest,
    };
    use crate::publish::fakes::{kinds, message};
    use crate::report::{QueueStats, SettleReport};
    use crate::time::Timestamp;

    /// A queue with room for two messages, that nobody reads.
    #[derive(Default)]
    struct Narrow(Mutex<HashSet<MessageId>>);

    impl Narrow {
        fn add(&self, id: MessageId) -> Result<Enqueued, PublishError> {
            let mut known = self.0.lock().unwrap();
            if known.contains(&id) {
                return Ok(Enqueued::Duplicate);
            }
            if known.len() == 2 {
                return Err(PublishError::unavailable("full"));
            }
            known.insert(id);
            Ok(Enqueued::Added)
        }
    }

    #[async_trait]
    impl Queue for Narrow {
        fn name(&self) -> &str {
            "narrow"
        }

        fn ordering(&self) -> Ordering {
            Ordering::Commit
        }

        async fn enqueue(&self, messages: &[Message]) -> Vec<Result<Enqueued, PublishError>> {
            messages
                .iter()
                .map(|message| self.add(message.id))
                .collect()
        }

        async fn dequeue(&self, _: &DequeueRequest) -> Result<DequeueReport> {
            Ok(DequeueReport::default())
        }

        async fn settle(&self, _: &[DeliverySettlement], _: Timestamp) -> Result<SettleReport> {
            Ok(SettleReport::default())
        }

        async fn extend(&self, _: &[Receipt], _: Duration, _: Timestamp) -> Result<Vec<Receipt>> {
            Ok(Vec::new())
        }

        async fn recover_stuck(&self, _: &RecoverRequest) -> Result<DequeueReport> {
            Ok(DequeueReport::default())
        }

        async fn stats(&self, _: Timestamp) -> Result<QueueStats> {
            Ok(QueueStats::default())
        }
    }

    #[tokio::test]
    async fn a_message_that_the_queue_knows_counts_as_published_and_a_full_queue_does_not() {
        let publisher = QueuePublisher::new(Arc::new(Narrow::default()));
        let messages = [1, 2, 3].map(|n| message(n, "t", None));
        let answers = publisher.publish(&messages[..1]).await;
        assert_eq!(kinds(&answers), ["ok"]);
        let answers = publisher.publish(&messages).await;
        assert_eq!(kinds(&answers), ["ok", "ok", "unavailable"]);
    }

    #[test]
    fn it_has_the_name_and_the_order_of_its_queue() {
        let publisher = QueuePublisher::new(Arc::new(Narrow::default()));
        assert_eq!(publisher.name(), "narrow");
        assert_eq!(publisher.ordering(), Ordering::Commit);
    }
}
