use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::error::BoxError;
use outbox_core::message::Message;
use outbox_core::ports::{Outbox, Queue};
use outbox_dlq::testing::{DlqCapabilities, DlqHarness, DlqSetup, DlqStore};
use outbox_dlq::{DlqHeap, LetterId, Quarantine};
use outbox_sqlite::{
    SqliteDlqHeap, SqliteOptions, SqliteOutbox, SqliteQuarantine, SqliteQueue, SqliteQueueConfig,
    SqliteStore,
};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

/// Makes files with an outbox, a queue, and their dead letters.
pub(crate) struct SqliteHarness;

#[async_trait]
impl DlqHarness for SqliteHarness {
    fn capabilities(&self) -> DlqCapabilities {
        DlqCapabilities {
            high_water: true,
            ..DlqCapabilities::default()
        }
    }

    async fn fresh(&self, setup: DlqSetup) -> Result<Box<dyn DlqStore>, BoxError> {
        let folder = tempfile::tempdir()?;
        let options = SqliteOptions::new(folder.path().join("outbox.db"))
            .clock(setup.clock)
            .entropy(setup.entropy);
        Ok(Box::new(Store {
            _folder: folder,
            options,
            high_water: setup.high_water,
        }))
    }
}

struct Store {
    _folder: TempDir,
    options: SqliteOptions,
    high_water: Option<usize>,
}

impl Store {
    async fn store(&self) -> Result<SqliteStore, BoxError> {
        Ok(SqliteStore::open_with(self.options.clone()).await?)
    }

    /// Changes rows behind everybody's back; how many.
    async fn change(&self, sql: &'static str, about: Vec<u8>) -> Result<u64, BoxError> {
        let path = self.options.path().to_str().ok_or("a path in UTF-8")?;
        let mut connection = SqliteConnection::connect(path).await?;
        let done = sqlx::query(sql)
            .bind(about)
            .execute(&mut connection)
            .await?;
        Ok(done.rows_affected())
    }
}

const CORRUPT_OUTBOX: &str =
    "UPDATE outbox_messages SET body = substr(body, 1, length(body) - 1) WHERE id = ?1";
const CORRUPT_QUEUE: &str = "UPDATE outbox_returned SET body = substr(body, 1, length(body) - 1) \
     WHERE place IN (SELECT place FROM outbox_enqueued WHERE id = ?1)";
const CORRUPT_LETTER: &str =
    "UPDATE outbox_quarantine SET headers = '[' WHERE entry = CAST(CAST(?1 AS TEXT) AS INTEGER)";

#[async_trait]
impl DlqStore for Store {
    async fn heap(&self) -> Result<Arc<dyn DlqHeap>, BoxError> {
        Ok(Arc::new(SqliteDlqHeap::on(&self.store().await?)))
    }

    async fn quarantine(&self) -> Result<Arc<dyn Quarantine>, BoxError> {
        Ok(Arc::new(SqliteQuarantine::on(&self.store().await?)))
    }

    async fn outbox(&self) -> Result<Arc<dyn Outbox>, BoxError> {
        Ok(Arc::new(SqliteOutbox::on(&self.store().await?)))
    }

    async fn queue(&self) -> Result<Arc<dyn Queue>, BoxError> {
        let mut config = SqliteQueueConfig::named("kit");
        config.high_water = self.high_water.unwrap_or(config.high_water);
        let queue = SqliteQueue::open(&self.store().await?, config).await?;
        Ok(Arc::new(queue))
    }

    async fn corrupt(&self, message: &Message) -> Result<(), BoxError> {
        let id = || message.id.as_bytes().to_vec();
        let changed = self.change(CORRUPT_OUTBOX, id()).await?;
        match changed + self.change(CORRUPT_QUEUE, id()).await? {
            1 => Ok(()),
            _ => Err("no such message".into()),
        }
    }

    async fn corrupt_letter(&self, id: LetterId) -> Result<(), BoxError> {
        match self
            .change(CORRUPT_LETTER, id.to_string().into_bytes())
            .await?
        {
            1 => Ok(()),
            _ => Err("no such dead letter".into()),
        }
    }
}
