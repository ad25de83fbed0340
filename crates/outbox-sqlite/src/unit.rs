//! Transactions of the caller's own, on the store's file.

use std::fmt;

use async_trait::async_trait;
use outbox_core::error::{BoxError, Result};
use outbox_core::ports::UnitOfWork;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqlitePoolOptions};
use sqlx::{Connection, Executor, Sqlite, Transaction};

use crate::connect::{Role, driver_options};
use crate::error::Fault;
use crate::options::SqliteOptions;
use crate::store::{At, SqliteStore, Turn};

/// A transaction that [`SqliteStore`] began as a [`UnitOfWork`]; rolled back where it is dropped.
///
/// It holds the write lock from the start, so that nothing in it has to be tried again; other
/// writers of this store wait for its end. What is written through another connection meanwhile,
/// [`outbox_core::ports::Outbox::append`] among it, waits too: inside a transaction, use
/// [`outbox_core::ports::TransactionalOutbox::append_in`].
pub struct SqliteTransaction {
    // Rolled back before the turn passes on: fields are dropped in this order.
    transaction: Transaction<'static, Sqlite>,
    turn: Turn,
}

impl fmt::Debug for SqliteTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqliteTransaction")
    }
}

/// The one connection that callers' transactions run on. SQLite may roll a transaction back by
/// itself, and the driver then miscounts: such a connection is closed instead of being used again.
pub(crate) fn pool(options: &SqliteOptions) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(options.busy_timeout)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_release(|connection, _| {
            Box::pin(async move {
                // A rollback that was only queued runs before this answers.
                connection.ping().await?;
                if connection.is_in_transaction() {
                    return Ok(false);
                }
                Ok(connection.execute("ROLLBACK").await.is_err())
            })
        })
        .connect_lazy_with(driver_options(options, Role::Durable))
}

#[async_trait]
impl UnitOfWork for SqliteStore {
    type Open = SqliteTransaction;
    type Tx = SqliteConnection;

    async fn begin(&self) -> Result<SqliteTransaction> {
        self.begin_unit().await.at(self, "begin")
    }

    fn connection<'a>(&self, open: &'a mut SqliteTransaction) -> &'a mut SqliteConnection {
        open.connection()
    }

    async fn commit(&self, open: SqliteTransaction) -> Result<()> {
        self.commit_unit(open).await.at(self, "commit")
    }

    async fn rollback(&self, open: SqliteTransaction) -> Result<(), BoxError> {
        let rolled_back = open.transaction.rollback().await;
        rolled_back.map_err(Fault::from).at(self, "roll back")?;
        Ok(())
    }
}

impl SqliteStore {
    /// Begins a transaction, once it is this caller's turn.
    pub(crate) async fn begin_unit(&self) -> Result<SqliteTransaction, Fault> {
        let turn = self.turn().await?;
        let transaction = self.callers().begin_with("BEGIN IMMEDIATE").await?;
        Ok(SqliteTransaction { transaction, turn })
    }

    /// Commits a transaction; wakes those who wait for messages where any were appended.
    pub(crate) async fn commit_unit(&self, open: SqliteTransaction) -> Result<(), Fault> {
        let SqliteTransaction { transaction, turn } = open;
        let appended = self.take_appended();
        let committed = transaction.commit().await;
        drop(turn);
        if appended {
            self.announce();
        }
        Ok(committed?)
    }
}

impl SqliteTransaction {
    /// The connection inside the transaction.
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.transaction
    }
}

/// SQLite alone knows whether a transaction is open: it may have rolled one back by itself. So it is
/// asked to begin another one, which it refuses inside a transaction.
pub(crate) async fn require_transaction(connection: &mut SqliteConnection) -> Result<(), Fault> {
    match sqlx::query("BEGIN").execute(&mut *connection).await {
        Ok(_) => {
            sqlx::query("ROLLBACK").execute(connection).await?;
            Err(Fault::NotInTransaction)
        }
        Err(error) if error.to_string().contains("within a transaction") => Ok(()),
        Err(error) => Err(error.into()),
    }
}
