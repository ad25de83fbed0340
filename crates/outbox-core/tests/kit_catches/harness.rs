use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use outbox_core::Result;
use outbox_core::delivery::Quarantined;
use outbox_core::error::BoxError;
use outbox_core::lease::Sequence;
use outbox_core::memory::{MemoryOutbox, MemoryOutboxConfig};
use outbox_core::message::{Limits, NewMessage};
use outbox_core::ports::{Outbox, Replay, ReplayFrom, ReplayRequest, TransactionalOutbox};
use outbox_core::report::{AppendReport, ReplayReport};
use outbox_core::testing::{
    OpenTransaction, OutboxCapabilities, OutboxHarness, OutboxSetup, OutboxStore, TransactionOn,
};

use crate::broken::{Broken, Fault};

/// Makes memory outboxes with a fault.
pub(crate) struct BrokenHarness(pub(crate) Fault);

#[async_trait]
impl OutboxHarness for BrokenHarness {
    fn capabilities(&self) -> OutboxCapabilities {
        OutboxCapabilities::default()
    }

    async fn fresh(&self, setup: OutboxSetup) -> Result<Box<dyn OutboxStore>, BoxError> {
        let limits = if self.0 == Fault::HasNoLimits {
            Limits::default()
        } else {
            setup.limits
        };
        let inner = MemoryOutbox::new(MemoryOutboxConfig {
            limits,
            keep_published: setup.keep_published,
            clock: setup.clock,
            entropy: setup.entropy,
        });
        Ok(Box::new(BrokenStore {
            inner,
            fault: self.0,
            epoch: Arc::default(),
        }))
    }
}

struct BrokenStore {
    inner: MemoryOutbox,
    fault: Fault,
    epoch: Arc<AtomicU64>,
}

#[async_trait]
impl OutboxStore for BrokenStore {
    async fn open(&self) -> Result<Arc<dyn Outbox>, BoxError> {
        let epoch = Arc::clone(&self.epoch);
        Ok(Arc::new(Broken::new(self.inner.clone(), self.fault, epoch)))
    }

    async fn open_replay(&self) -> Result<Arc<dyn Replay>, BoxError> {
        Ok(Arc::new(BrokenReplay(self.inner.clone(), self.fault)))
    }

    async fn begin(&self) -> Result<Box<dyn OpenTransaction>, BoxError> {
        if self.fault == Fault::CommitsAtOnce {
            return Ok(Box::new(AtOnce(self.inner.clone())));
        }
        let outbox = Arc::new(self.inner.clone());
        Ok(TransactionOn::begin(Arc::clone(&outbox), outbox).await?)
    }

    async fn append_outside_transaction(&self, messages: &[NewMessage]) -> Result<AppendReport> {
        if self.fault == Fault::CommitsAtOnce {
            return self.inner.append(messages).await;
        }
        self.inner
            .append_in(&mut Default::default(), messages)
            .await
    }

    async fn corrupt(&self, sequence: Sequence) -> Result<(), BoxError> {
        self.inner.corrupt(sequence);
        Ok(())
    }

    async fn quarantined(&self) -> Result<Vec<Quarantined>, BoxError> {
        let mut resting = self.inner.quarantined();
        if self.fault == Fault::QuarantinesWithoutHistory {
            resting.iter_mut().for_each(|entry| entry.history.clear());
        }
        Ok(resting)
    }
}

/// A transaction that is none.
struct AtOnce(MemoryOutbox);

#[async_trait]
impl OpenTransaction for AtOnce {
    async fn append(&mut self, messages: &[NewMessage]) -> Result<AppendReport> {
        self.0.append(messages).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        Ok(())
    }

    async fn rollback(self: Box<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}

/// A replay with a fault.
struct BrokenReplay(MemoryOutbox, Fault);

#[async_trait]
impl Replay for BrokenReplay {
    async fn replay(&self, request: &ReplayRequest) -> Result<ReplayReport> {
        match self.1 {
            Fault::ReplaysNothing => Ok(ReplayReport::default()),
            Fault::ReplaysWhateverIsKept => {
                let all = ReplayRequest::of_all(ReplayFrom::Sequence(Sequence(0)));
                self.0.replay(&all).await
            }
            _ => self.0.replay(request).await,
        }
    }
}
