use async_trait::async_trait;

use crate::delivery::Delivery;
use crate::error::HandlerError;

/// How a delivery was dealt with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Handled {
    /// It took effect.
    #[default]
    Done,
    /// It had taken effect before, and nothing was done: counted as a duplicate.
    Duplicate,
}

impl From<()> for Handled {
    fn from((): ()) -> Self {
        Self::Done
    }
}

/// The user's code: what is done with a delivery.
///
/// A closure that answers `Ok(())` has [`Handled::Done`] said.
///
/// # Contract
/// - `Ok` means that every effect of the delivery is durable, whether it is of this delivery
///   ([`Handled::Done`]) or of an earlier one ([`Handled::Duplicate`]); either is acknowledged.
/// - A delivery may come again after any answer: handlers are idempotent, or run behind an inbox.
/// - A handler that panics or outlives its timeout counts as failed.
///
/// # Cancel safety
/// The future is dropped at its timeout and when the worker's grace period ends.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Handles one delivery.
    ///
    /// # Errors
    /// [`HandlerError::Retry`] where another attempt may succeed, [`HandlerError::Reject`] where none
    /// will.
    async fn handle(&self, delivery: &Delivery) -> Result<Handled, HandlerError>;
}

#[async_trait]
impl<F, Fut, A> Handler for F
where
    F: Fn(Delivery) -> Fut + Send + Sync,
    Fut: Future<Output = Result<A, HandlerError>> + Send,
    A: Into<Handled>,
{
    async fn handle(&self, delivery: &Delivery) -> Result<Handled, HandlerError> {
        self(delivery.clone()).await.map(Into::into)
    }
}

/// A handler whose effects, inbox record and follow-up messages commit in one transaction.
///
/// # Contract
/// Everything is done through `tx`; what is not, is not undone with it.
///
/// # Cancel safety
/// As [`Handler`]; the transaction is rolled back.
#[async_trait]
pub trait TransactionalHandler<Tx: ?Sized + Send>: Send + Sync {
    /// Handles one delivery inside the transaction that `tx` is in.
    ///
    /// # Errors
    /// As [`Handler::handle`]; the transaction is rolled back.
    async fn handle(&self, tx: &mut Tx, delivery: &Delivery) -> Result<(), HandlerError>;
}
