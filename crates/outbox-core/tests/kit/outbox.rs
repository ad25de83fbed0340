use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::Result;
use outbox_core::delivery::Quarantined;
use outbox_core::error::BoxError;
use outbox_core::lease::Sequence;
use outbox_core::memory::{MemoryOutbox, MemoryOutboxConfig, MemoryTransaction};
use outbox_core::message::NewMessage;
use outbox_core::ports::{Outbox, Replay, TransactionalOutbox};
use outbox_core::report::AppendReport;
use outbox_core::status::Ordering;
use outbox_core::testing::{
    OpenTransaction, OutboxCapabilities, OutboxHarness, OutboxSetup, OutboxStore, TransactionOn,
};

/// Makes memory outboxes.
pub(crate) struct MemoryHarness;

#[async_trait]
impl OutboxHarness for MemoryHarness {
    fn capabilities(&self) -> OutboxCapabilities {
        OutboxCapabilities {
            ordering: Ordering::Commit,
            quiet_wake: true,
            ..OutboxCapabilities::default()
        }
    }

    async fn fresh(&self, setup: OutboxSetup) -> Result<Box<dyn OutboxStore>, BoxError> {
        Ok(Box::new(Store(MemoryOutbox::new(MemoryOutboxConfig {
            limits: setup.limits,
            keep_published: setup.keep_published,
            clock: setup.clock,
            entropy: setup.entropy,
        }))))
    }
}

struct Store(MemoryOutbox);

#[async_trait]
impl OutboxStore for Store {
    async fn open(&self) -> Result<Arc<dyn Outbox>, BoxError> {
        Ok(Arc::new(self.0.clone()))
    }

    async fn open_replay(&self) -> Result<Arc<dyn Replay>, BoxError> {
        Ok(Arc::new(self.0.clone()))
    }

    async fn begin(&self) -> Result<Box<dyn OpenTransaction>, BoxError> {
        let outbox = Arc::new(self.0.clone());
        Ok(TransactionOn::begin(Arc::clone(&outbox), outbox).await?)
    }

    async fn append_outside_transaction(&self, messages: &[NewMessage]) -> Result<AppendReport> {
        let mut outside = MemoryTransaction::default();
        self.0.append_in(&mut outside, messages).await
    }

    async fn corrupt(&self, sequence: Sequence) -> Result<(), BoxError> {
        if self.0.corrupt(sequence) {
            Ok(())
        } else {
            Err("no such row".into())
        }
    }

    async fn quarantined(&self) -> Result<Vec<Quarantined>, BoxError> {
        Ok(self.0.quarantined())
    }
}
