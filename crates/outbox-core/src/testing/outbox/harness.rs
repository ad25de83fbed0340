use std::sync::Arc;

use async_trait::async_trait;

use crate::delivery::Quarantined;
use crate::error::{BoxError, Result};
use crate::id::Entropy;
use crate::lease::Sequence;
use crate::message::{Limits, NewMessage};
use crate::ports::{Outbox, Replay, TransactionalOutbox, UnitOfWork};
use crate::report::AppendReport;
use crate::status::Ordering;
use crate::time::Clock;

/// How much of an outbox one lease covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseScope {
    /// The whole outbox: further relays stand by.
    Outbox,
    /// Each message: several relays work side by side.
    Message,
}

/// What an outbox backend can do, as data; the kit holds it to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxCapabilities {
    /// The order that it keeps; [`Ordering::PerKey`] by default.
    pub ordering: Ordering,
    /// What a lease covers; [`LeaseScope::Outbox`] by default.
    pub lease: LeaseScope,
    /// Whether appends can join a caller's transaction; true by default.
    pub transactions: bool,
    /// Whether an append to a connection outside any transaction can be tried, and is refused;
    /// true by default.
    pub refuses_outside_transaction: bool,
    /// Whether the harness can damage a stored row; true by default.
    pub corruption: bool,
    /// Whether published messages that are kept can be replayed; true by default.
    pub replay: bool,
    /// Whether its signals are given only where something may have become claimable, and never for
    /// nothing, as [`crate::signal::Wake`] allows; false by default.
    pub quiet_wake: bool,
}

impl Default for OutboxCapabilities {
    fn default() -> Self {
        Self {
            ordering: Ordering::PerKey,
            lease: LeaseScope::Outbox,
            transactions: true,
            refuses_outside_transaction: true,
            corruption: true,
            replay: true,
            quiet_wake: false,
        }
    }
}

/// What a fresh store is to be made with.
#[derive(Clone, Debug)]
pub struct OutboxSetup {
    /// The sizes that it accepts.
    pub limits: Limits,
    /// Whether published rows are kept until they are purged, or deleted at once.
    pub keep_published: bool,
    /// The clock that appends take their creation time from.
    pub clock: Arc<dyn Clock>,
    /// What ids are made from.
    pub entropy: Entropy,
}

/// Makes stores for the cases of [`Outbox`] and [`TransactionalOutbox`].
#[async_trait]
pub trait OutboxHarness: Send + Sync {
    /// What the backend can do.
    fn capabilities(&self) -> OutboxCapabilities;

    /// Makes a new, empty store that shares nothing with any other.
    ///
    /// # Errors
    /// Where the store cannot be made; the case has failed.
    async fn fresh(&self, setup: OutboxSetup) -> Result<Box<dyn OutboxStore>, BoxError>;
}

/// One outbox in its store; what is in it goes when this is dropped.
#[async_trait]
pub trait OutboxStore: Send + Sync {
    /// Opens a handle on the store. Each call opens another one that shares no memory with the
    /// earlier ones, as another process would; where all were dropped, this reopens the store.
    ///
    /// # Errors
    /// Where the store cannot be opened.
    async fn open(&self) -> Result<Arc<dyn Outbox>, BoxError>;

    /// Opens a handle to replay with, as [`OutboxStore::open`] does.
    ///
    /// # Errors
    /// Where the store cannot be opened, or where the backend replays nothing.
    async fn open_replay(&self) -> Result<Arc<dyn Replay>, BoxError>;

    /// Begins a transaction as a caller would, on a connection of its own.
    ///
    /// # Errors
    /// Where it cannot be begun, or where the backend has no transactions.
    async fn begin(&self) -> Result<Box<dyn OpenTransaction>, BoxError>;

    /// Appends `messages` with [`TransactionalOutbox::append_in`] to a connection that is inside no
    /// transaction; answers what that answered.
    ///
    /// # Errors
    /// Where the append was refused, as it should be.
    async fn append_outside_transaction(&self, messages: &[NewMessage]) -> Result<AppendReport>;

    /// Damages the row of the message at `sequence`, so that it cannot be read.
    ///
    /// # Errors
    /// Where there is no such row.
    async fn corrupt(&self, sequence: Sequence) -> Result<(), BoxError>;

    /// All that is in quarantine, oldest first.
    ///
    /// # Errors
    /// Where the store cannot be read.
    async fn quarantined(&self) -> Result<Vec<Quarantined>, BoxError>;
}

/// A transaction that a case has begun; rolled back where it is dropped.
#[async_trait]
pub trait OpenTransaction: Send {
    /// Appends `messages` to the transaction.
    ///
    /// # Errors
    /// As [`TransactionalOutbox::append_in`].
    async fn append(&mut self, messages: &[NewMessage]) -> Result<AppendReport>;

    /// Commits, and wakes the relay as a caller would.
    ///
    /// # Errors
    /// As [`UnitOfWork::commit`].
    async fn commit(self: Box<Self>) -> Result<()>;

    /// Rolls back.
    ///
    /// # Errors
    /// As [`UnitOfWork::rollback`].
    async fn rollback(self: Box<Self>) -> Result<(), BoxError>;
}

/// An [`OpenTransaction`] made of a [`UnitOfWork`] and the outbox that appends to it.
pub struct TransactionOn<U: UnitOfWork, O> {
    unit: Arc<U>,
    outbox: Arc<O>,
    open: U::Open,
}

impl<U, O> TransactionOn<U, O>
where
    U: UnitOfWork + 'static,
    U::Open: 'static,
    O: Outbox + TransactionalOutbox<Tx = U::Tx> + 'static,
{
    /// Begins a transaction of `unit`, to which `outbox` appends.
    ///
    /// # Errors
    /// As [`UnitOfWork::begin`].
    ///
    /// # Cancel safety
    /// A dropped call leaves a transaction that is rolled back.
    pub async fn begin(unit: Arc<U>, outbox: Arc<O>) -> Result<Box<dyn OpenTransaction>> {
        let open = unit.begin().await?;
        Ok(Box::new(Self { unit, outbox, open }))
    }
}

#[async_trait]
impl<U, O> OpenTransaction for TransactionOn<U, O>
where
    U: UnitOfWork + 'static,
    U::Open: 'static,
    O: Outbox + TransactionalOutbox<Tx = U::Tx> + 'static,
{
    async fn append(&mut self, messages: &[NewMessage]) -> Result<AppendReport> {
        let connection = self.unit.connection(&mut self.open);
        self.outbox.append_in(connection, messages).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.unit.commit(self.open).await?;
        self.outbox.wake().notify();
        Ok(())
    }

    async fn rollback(self: Box<Self>) -> Result<(), BoxError> {
        self.unit.rollback(self.open).await
    }
}
