use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::delivery::Quarantined;
use outbox_core::error::BoxError;
use outbox_core::id::MessageId;
use outbox_core::memory::{MemoryQueue, MemoryQueueConfig};
use outbox_core::ports::Queue;
use outbox_core::testing::{QueueCapabilities, QueueHarness, QueueSetup, QueueStore};

/// Makes memory queues.
pub(crate) struct MemoryHarness;

#[async_trait]
impl QueueHarness for MemoryHarness {
    fn capabilities(&self) -> QueueCapabilities {
        QueueCapabilities::default()
    }

    async fn fresh(&self, setup: QueueSetup) -> Result<Box<dyn QueueStore>, BoxError> {
        let config = MemoryQueueConfig {
            name: "kit".to_owned(),
            dedup_window: setup.dedup_window,
            high_water: setup.high_water,
        };
        Ok(Box::new(Store(MemoryQueue::new(config, setup.clock))))
    }
}

struct Store(MemoryQueue);

#[async_trait]
impl QueueStore for Store {
    async fn open(&self) -> Result<Arc<dyn Queue>, BoxError> {
        Ok(Arc::new(self.0.clone()))
    }

    async fn corrupt(&self, id: MessageId) -> Result<(), BoxError> {
        if self.0.corrupt(id) {
            Ok(())
        } else {
            Err("no such entry".into())
        }
    }

    async fn quarantined(&self) -> Result<Vec<Quarantined>, BoxError> {
        Ok(self.0.quarantined())
    }
}
