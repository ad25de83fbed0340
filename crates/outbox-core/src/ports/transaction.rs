use async_trait::async_trait;

use crate::error::{BoxError, Result};
use crate::message::NewMessage;
use crate::report::AppendReport;

/// An outbox whose appends can join a transaction that the caller has begun.
///
/// # Contract
/// The messages exist if and only if the caller's transaction commits. A connection that is not
/// inside a transaction, because none was begun or because the database rolled it back by itself,
/// is refused with a typed error and nothing is appended.
///
/// # Cancel safety
/// As for all ports; the caller's transaction decides in the end.
#[async_trait]
#[doc(alias = "OutboxRepository")]
pub trait TransactionalOutbox: Send + Sync {
    /// The connection that carries the caller's transaction.
    type Tx: ?Sized + Send;

    /// Appends `messages` to the transaction that `tx` is in. Wake the relay after the commit with
    /// [`crate::ports::Outbox::wake`] where the backend cannot see it by itself.
    ///
    /// # Errors
    /// As [`crate::ports::Outbox::append`]; abandon the transaction after any error.
    #[doc(alias = "add_event")]
    async fn append_in(&self, tx: &mut Self::Tx, messages: &[NewMessage]) -> Result<AppendReport>;
}

/// Appends messages to the transaction of a [`UnitOfWork`].
#[async_trait]
pub trait Appender<Tx: ?Sized + Send>: Send + Sync {
    /// As [`TransactionalOutbox::append_in`].
    ///
    /// # Errors
    /// As [`TransactionalOutbox::append_in`].
    async fn append(&self, tx: &mut Tx, messages: &[NewMessage]) -> Result<AppendReport>;
}

#[async_trait]
impl<O: TransactionalOutbox> Appender<O::Tx> for O {
    async fn append(&self, tx: &mut O::Tx, messages: &[NewMessage]) -> Result<AppendReport> {
        self.append_in(tx, messages).await
    }
}

/// A place to do a unit of work: begins a transaction, and commits it or rolls it back.
///
/// # Contract
/// `commit` makes all of the transaction durable or answers an error; a transaction that is dropped
/// is rolled back.
///
/// # Cancel safety
/// A dropped `commit` took effect or did not.
#[async_trait]
#[doc(alias = "ExecuteWithOutbox")]
#[doc(alias = "OutboxRepositoryWrapper")]
pub trait UnitOfWork: Send + Sync {
    /// An open transaction; rolled back where it is dropped.
    type Open: Send;
    /// The connection inside an open transaction.
    type Tx: ?Sized + Send;

    /// Begins a transaction.
    ///
    /// # Errors
    /// Where the store cannot begin one.
    async fn begin(&self) -> Result<Self::Open>;

    /// The connection inside `open`.
    fn connection<'a>(&self, open: &'a mut Self::Open) -> &'a mut Self::Tx;

    /// Commits.
    ///
    /// # Errors
    /// Where the commit failed: nothing was done, or, where the error is transient, that is unknown.
    async fn commit(&self, open: Self::Open) -> Result<()>;

    /// Rolls back.
    ///
    /// # Errors
    /// Where the store failed; the transaction is rolled back all the same.
    async fn rollback(&self, open: Self::Open) -> Result<(), BoxError>;
}
