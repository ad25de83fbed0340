use async_trait::async_trait;

use crate::delivery::Delivery;
use crate::error::HandlerError;

/// The user's code: what is done with a delivery.
///
/// # Contract
/// - `Ok` means that every effect of the delivery is durable.
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
    async fn handle(&self, delivery: &Delivery) -> Result<(), HandlerError>;
}

#[async_trait]
impl<F, Fut> Handler for F
where
    F: Fn(Delivery) -> Fut + Send + Sync,
    Fut: Future<Output = Result<(), HandlerError>> + Send,
{
    async fn handle(&self, delivery: &Delivery) -> Result<(), HandlerError> {
        self(delivery.clone()).await
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
