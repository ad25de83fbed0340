use std::sync::Arc;

use async_trait::async_trait;

use super::append::Drafts;
use super::port::{MemoryOutbox, Shared};
use crate::error::{BoxError, OutboxError, Result, Transience};
use crate::message::NewMessage;
use crate::ports::{TransactionalOutbox, UnitOfWork};
use crate::report::AppendReport;

/// A transaction of a [`MemoryOutbox`]: it keeps appended messages to itself until it is committed,
/// and drops them where it is dropped.
///
/// The default one is a connection that is inside no transaction; appends to it are refused.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use outbox_core::memory::MemoryOutbox;
/// use outbox_core::message::NewMessage;
/// use outbox_core::ports::{TransactionalOutbox, UnitOfWork};
///
/// let outbox = MemoryOutbox::default();
/// let mut open = outbox.begin().await?;
/// outbox.append_in(&mut open, &[NewMessage::new("orders", "placed")]).await?;
/// outbox.commit(open).await?;
/// # Ok::<_, outbox_core::OutboxError>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Default)]
pub struct MemoryTransaction {
    /// The outbox that it was begun on.
    on: Option<Arc<Shared>>,
    drafts: Drafts,
}

impl MemoryTransaction {
    fn check_begun_on(&self, outbox: &MemoryOutbox, operation: &'static str) -> Result<()> {
        match &self.on {
            Some(on) if Arc::ptr_eq(on, &outbox.0) => Ok(()),
            _ => Err(OutboxError::Backend {
                backend: "memory",
                operation,
                transience: Transience::Permanent,
                source: "not inside a transaction of this outbox".into(),
            }),
        }
    }
}

#[async_trait]
impl TransactionalOutbox for MemoryOutbox {
    type Tx = MemoryTransaction;

    async fn append_in(
        &self,
        tx: &mut MemoryTransaction,
        messages: &[NewMessage],
    ) -> Result<AppendReport> {
        self.0.config.limits.check_batch(messages)?;
        tx.check_begun_on(self, "append")?;
        let state = self.state();
        Ok(self.draft(&mut tx.drafts, &state, messages))
    }
}

#[async_trait]
impl UnitOfWork for MemoryOutbox {
    type Open = MemoryTransaction;
    type Tx = MemoryTransaction;

    async fn begin(&self) -> Result<MemoryTransaction> {
        Ok(MemoryTransaction {
            on: Some(Arc::clone(&self.0)),
            drafts: Drafts::default(),
        })
    }

    fn connection<'a>(&self, open: &'a mut MemoryTransaction) -> &'a mut MemoryTransaction {
        open
    }

    async fn commit(&self, open: MemoryTransaction) -> Result<()> {
        open.check_begun_on(self, "commit")?;
        let added = self.state().commit(open.drafts)?;
        self.wake_if(added > 0);
        Ok(())
    }

    async fn rollback(&self, open: MemoryTransaction) -> Result<(), BoxError> {
        open.check_begun_on(self, "rollback")?;
        Ok(())
    }
}
