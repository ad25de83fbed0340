use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use outbox_core::error::BoxError;
use outbox_core::message::Message;
use outbox_core::ports::{Outbox, Queue};
use outbox_dlq::testing::{DlqCapabilities, DlqHarness, DlqSetup, DlqStore};
use outbox_dlq::{DlqHeap, LetterId, Quarantine};

use crate::heap::{BrokenHeap, HeapFault};
use crate::memory_store::MemoryHarness;
use crate::quarantine::{BrokenQuarantine, QuarantineFault};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Heap(HeapFault),
    Quarantine(QuarantineFault),
}

/// Makes memory stores with a fault.
pub(crate) struct BrokenHarness(pub(crate) Fault);

#[async_trait]
impl DlqHarness for BrokenHarness {
    fn capabilities(&self) -> DlqCapabilities {
        MemoryHarness.capabilities()
    }

    async fn fresh(&self, setup: DlqSetup) -> Result<Box<dyn DlqStore>, BoxError> {
        let inner = MemoryHarness.fresh(setup).await?;
        let fault = self.0;
        Ok(Box::new(BrokenStore { inner, fault }))
    }
}

struct BrokenStore {
    inner: Box<dyn DlqStore>,
    fault: Fault,
}

#[async_trait]
impl DlqStore for BrokenStore {
    async fn heap(&self) -> Result<Arc<dyn DlqHeap>, BoxError> {
        let inner = self.inner.heap().await?;
        Ok(match self.fault {
            Fault::Heap(fault) => Arc::new(BrokenHeap {
                inner,
                fault,
                drained: Mutex::default(),
            }),
            _ => inner,
        })
    }

    async fn quarantine(&self) -> Result<Arc<dyn Quarantine>, BoxError> {
        let inner = self.inner.quarantine().await?;
        Ok(match self.fault {
            Fault::Quarantine(fault) => Arc::new(BrokenQuarantine {
                inner,
                fault,
                steps: AtomicU64::new(0),
            }),
            _ => inner,
        })
    }

    async fn outbox(&self) -> Result<Arc<dyn Outbox>, BoxError> {
        self.inner.outbox().await
    }

    async fn queue(&self) -> Result<Arc<dyn Queue>, BoxError> {
        self.inner.queue().await
    }

    async fn corrupt(&self, message: &Message) -> Result<(), BoxError> {
        self.inner.corrupt(message).await
    }

    async fn corrupt_letter(&self, id: LetterId) -> Result<(), BoxError> {
        self.inner.corrupt_letter(id).await
    }
}
