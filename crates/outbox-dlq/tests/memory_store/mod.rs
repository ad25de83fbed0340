//! Memory outboxes and queues, with their dead letters.
use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::error::BoxError;
use outbox_core::memory::{MemoryOutbox, MemoryOutboxConfig, MemoryQueue, MemoryQueueConfig};
use outbox_core::message::Message;
use outbox_core::ports::{Outbox, Queue};
use outbox_dlq::testing::{DlqCapabilities, DlqHarness, DlqSetup, DlqStore};
use outbox_dlq::{DlqHeap, LetterId, MemoryDlqHeap, MemoryQuarantine, Quarantine};

/// Makes memory outboxes and queues, with their dead letters.
pub(crate) struct MemoryHarness;

#[async_trait]
impl DlqHarness for MemoryHarness {
    fn capabilities(&self) -> DlqCapabilities {
        DlqCapabilities {
            high_water: true,
            ..DlqCapabilities::default()
        }
    }

    async fn fresh(&self, setup: DlqSetup) -> Result<Box<dyn DlqStore>, BoxError> {
        let outbox = MemoryOutbox::new(MemoryOutboxConfig {
            clock: Arc::clone(&setup.clock),
            entropy: setup.entropy,
            ..MemoryOutboxConfig::default()
        });
        let mut config = MemoryQueueConfig {
            name: "kit".to_owned(),
            ..MemoryQueueConfig::default()
        };
        config.high_water = setup.high_water.unwrap_or(config.high_water);
        let queue = MemoryQueue::new(config, setup.clock);
        let quarantine = MemoryQuarantine::new();
        let quarantine = quarantine
            .with_outbox(outbox.clone())
            .with_queue(queue.clone());
        Ok(Box::new(Store {
            heap: MemoryDlqHeap::default(),
            quarantine,
            outbox,
            queue,
        }))
    }
}

struct Store {
    heap: MemoryDlqHeap,
    quarantine: MemoryQuarantine,
    outbox: MemoryOutbox,
    queue: MemoryQueue,
}

#[async_trait]
impl DlqStore for Store {
    async fn heap(&self) -> Result<Arc<dyn DlqHeap>, BoxError> {
        Ok(Arc::new(self.heap.clone()))
    }

    async fn quarantine(&self) -> Result<Arc<dyn Quarantine>, BoxError> {
        Ok(Arc::new(self.quarantine.clone()))
    }

    async fn outbox(&self) -> Result<Arc<dyn Outbox>, BoxError> {
        Ok(Arc::new(self.outbox.clone()))
    }

    async fn queue(&self) -> Result<Arc<dyn Queue>, BoxError> {
        Ok(Arc::new(self.queue.clone()))
    }

    async fn corrupt(&self, message: &Message) -> Result<(), BoxError> {
        if self.queue.corrupt(message.id) || self.outbox.corrupt(message.sequence) {
            return Ok(());
        }
        Err("no such message".into())
    }

    async fn corrupt_letter(&self, id: LetterId) -> Result<(), BoxError> {
        if self.quarantine.corrupt(id) {
            return Ok(());
        }
        Err("no such dead letter".into())
    }
}
