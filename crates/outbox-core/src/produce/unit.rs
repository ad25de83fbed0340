use crate::error::{OutboxError, Result};
use crate::message::NewMessage;
use crate::ports::{Appender, UnitOfWork};
use crate::report::AppendReport;

/// Why a unit of work was not done.
#[derive(Debug, thiserror::Error)]
pub enum WorkError<E> {
    /// The work itself failed; everything that it did was rolled back.
    #[error("the work failed and was rolled back: {0}")]
    Work(E),
    /// The store failed: nothing was done, or, where the error is transient, that is unknown.
    #[error(transparent)]
    Store(#[from] OutboxError),
}

/// Does `work` in a transaction of `unit` and appends the messages that it answers to the same
/// transaction: both are done, or neither is.
///
/// Several operations are combined by doing them one after another in one `work`.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use outbox_core::memory::{MemoryOutbox, MemoryTransaction};
/// use outbox_core::message::NewMessage;
/// use outbox_core::produce::execute_with_outbox;
///
/// let outbox = MemoryOutbox::default();
/// let report = execute_with_outbox(&outbox, &outbox, async |_tx: &mut MemoryTransaction| {
///     // The business rows are written through `_tx`.
///     Ok::<_, std::io::Error>(vec![NewMessage::new("orders", "order 7 placed")])
/// });
/// assert_eq!(report.await.unwrap().added(), 1);
/// # });
/// ```
///
/// # Errors
/// [`WorkError::Work`] with the work's own error, [`WorkError::Store`] where the transaction could
/// not be begun, appended to or committed.
///
/// # Cancel safety
/// The transaction is rolled back, or, where the commit was under way, it took effect or did not.
#[doc(alias = "ExecuteWithOutbox")]
#[doc(alias = "EventProducingOperation")]
#[doc(alias = "CombineOperations")]
#[doc(alias = "ExecuteBatch")]
#[doc(alias = "OutboxEnabledAggregateRepository")]
#[doc(alias = "NewOutboxEnabledAggregateRepository")]
pub async fn execute_with_outbox<U, W, E>(
    unit: &U,
    appender: &dyn Appender<U::Tx>,
    work: W,
) -> Result<AppendReport, WorkError<E>>
where
    U: UnitOfWork,
    W: AsyncFnOnce(&mut U::Tx) -> Result<Vec<NewMessage>, E>,
{
    let (open, report) = prepare(unit, appender, work).await?;
    unit.commit(open).await?;
    Ok(report)
}

/// Does `work` and appends its messages, but leaves the transaction open; rolls back where either
/// fails.
pub(super) async fn prepare<U, W, E>(
    unit: &U,
    appender: &dyn Appender<U::Tx>,
    work: W,
) -> Result<(U::Open, AppendReport), WorkError<E>>
where
    U: UnitOfWork,
    W: AsyncFnOnce(&mut U::Tx) -> Result<Vec<NewMessage>, E>,
{
    let mut open = unit.begin().await?;
    match work_and_append(unit.connection(&mut open), appender, work).await {
        Ok(report) => Ok((open, report)),
        Err(error) => {
            roll_back(unit, open).await;
            Err(error)
        }
    }
}

async fn work_and_append<Tx, W, E>(
    tx: &mut Tx,
    appender: &dyn Appender<Tx>,
    work: W,
) -> Result<AppendReport, WorkError<E>>
where
    Tx: ?Sized + Send,
    W: AsyncFnOnce(&mut Tx) -> Result<Vec<NewMessage>, E>,
{
    let messages = work(tx).await.map_err(WorkError::Work)?;
    if messages.is_empty() {
        return Ok(AppendReport::default());
    }
    Ok(appender.append(tx, &messages).await?)
}

/// Rolls back; where even that fails, the store drops the transaction by itself.
pub(super) async fn roll_back<U: UnitOfWork>(unit: &U, open: U::Open) {
    if let Err(error) = unit.rollback(open).await {
        tracing::warn!(error, "a rollback was not confirmed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::produce::fakes::{Draft, Fault, Store};

    fn placed() -> Vec<NewMessage> {
        vec![NewMessage::new("orders", "placed")]
    }

    #[tokio::test]
    async fn work_and_its_messages_are_committed_together() {
        let store = Store::new();
        let work = async |tx: &mut Draft| {
            tx.insert("order 7");
            Ok::<_, OutboxError>(placed())
        };
        // Spawned, because futures of generic work must stay `Send`.
        let of_task = std::sync::Arc::clone(&store);
        let task = async move { execute_with_outbox(&*of_task, &*of_task, work).await };
        let report = tokio::spawn(task).await.unwrap().unwrap();
        assert_eq!(report.added(), 1);
        assert_eq!(
            (store.rows(), store.payloads()),
            (vec!["order 7".into()], vec!["placed".into()])
        );
    }

    #[tokio::test]
    async fn failed_work_leaves_neither_rows_nor_messages() {
        let store = Store::new();
        let work = async |tx: &mut Draft| {
            tx.insert("order 7");
            Err::<Vec<NewMessage>, _>("no stock")
        };
        let failed = execute_with_outbox(&*store, &*store, work).await;
        assert!(matches!(failed, Err(WorkError::Work("no stock"))));
        assert!(store.rows().is_empty() && store.payloads().is_empty());
    }

    #[tokio::test]
    async fn a_commit_that_fails_is_the_stores_error() {
        let store = Store::failing([Fault::Dead]);
        let work = async |_: &mut Draft| Ok::<_, OutboxError>(placed());
        let failed = execute_with_outbox(&*store, &*store, work).await;
        assert!(matches!(failed, Err(WorkError::Store(_))));
        assert!(store.payloads().is_empty());
    }
}
