use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::delivery::Quarantined;
use outbox_core::error::BoxError;
use outbox_core::id::MessageId;
use outbox_core::lease::{Epoch, Sequence};
use outbox_core::message::{Kind, Message, NewMessage};
use outbox_core::ports::{Outbox, Replay, TransactionalOutbox};
use outbox_core::report::AppendReport;
use outbox_core::status::Ordering;
use outbox_core::testing::{
    OpenTransaction, OutboxCapabilities, OutboxHarness, OutboxSetup, OutboxStore, TransactionOn,
};
use outbox_core::time::Timestamp;
use outbox_core::{OutboxError, Result};
use outbox_sqlite::{SqliteOptions, SqliteOutbox, SqliteStore};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, SqliteConnection};
use tempfile::TempDir;

/// Makes outboxes in files of their own.
pub(crate) struct SqliteHarness;

#[async_trait]
impl OutboxHarness for SqliteHarness {
    fn capabilities(&self) -> OutboxCapabilities {
        OutboxCapabilities {
            ordering: Ordering::Commit,
            ..OutboxCapabilities::default()
        }
    }

    async fn fresh(&self, setup: OutboxSetup) -> Result<Box<dyn OutboxStore>, BoxError> {
        let folder = tempfile::tempdir()?;
        let options = SqliteOptions::new(folder.path().join("outbox.db"))
            .limits(setup.limits)
            .keep_published(setup.keep_published)
            .clock(setup.clock)
            .entropy(setup.entropy);
        Ok(Box::new(Store {
            _folder: folder,
            options,
        }))
    }
}

struct Store {
    _folder: TempDir,
    options: SqliteOptions,
}

impl Store {
    /// A connection that the store knows nothing of, as an application has it.
    async fn connect(&self) -> Result<SqliteConnection, BoxError> {
        let path = self.options.path().to_str().ok_or("a path in UTF-8")?;
        Ok(SqliteConnection::connect(path).await?)
    }
}

#[async_trait]
impl OutboxStore for Store {
    async fn open(&self) -> Result<Arc<dyn Outbox>, BoxError> {
        Ok(Arc::new(
            SqliteOutbox::open_with(self.options.clone()).await?,
        ))
    }

    async fn open_replay(&self) -> Result<Arc<dyn Replay>, BoxError> {
        Ok(Arc::new(
            SqliteOutbox::open_with(self.options.clone()).await?,
        ))
    }

    async fn begin(&self) -> Result<Box<dyn OpenTransaction>, BoxError> {
        let store = SqliteStore::open_with(self.options.clone()).await?;
        let outbox = SqliteOutbox::on(&store);
        Ok(TransactionOn::begin(Arc::new(store), Arc::new(outbox)).await?)
    }

    async fn append_outside_transaction(&self, messages: &[NewMessage]) -> Result<AppendReport> {
        let outbox = SqliteOutbox::open_with(self.options.clone()).await?;
        let path = self.options.path().to_str().unwrap_or_default();
        let mut outside = SqliteConnection::connect(path)
            .await
            .map_err(|error| OutboxError::codec("the connection", error))?;
        outbox.append_in(&mut outside, messages).await
    }

    async fn corrupt(&self, sequence: Sequence) -> Result<(), BoxError> {
        let mut connection = self.connect().await?;
        let damage =
            "UPDATE outbox_messages SET body = substr(body, 1, length(body) - 1) WHERE seq = ?1";
        let damaged = sqlx::query(damage)
            .bind(sequence.0 as i64)
            .execute(&mut connection)
            .await?;
        match damaged.rows_affected() {
            1 => Ok(()),
            _ => Err("no such row".into()),
        }
    }

    async fn quarantined(&self) -> Result<Vec<Quarantined>, BoxError> {
        let mut connection = self.connect().await?;
        let all = "SELECT * FROM outbox_quarantine WHERE origin = 'outbox' ORDER BY entry";
        let rows = sqlx::query(all).fetch_all(&mut connection).await?;
        rows.iter().map(quarantined).collect()
    }
}

fn quarantined(row: &SqliteRow) -> Result<Quarantined, BoxError> {
    Ok(Quarantined {
        place: format!("outbox row {}", row.try_get::<i64, _>("seq")?),
        message: message(row)?,
        attempts: row.try_get("attempts")?,
        history: serde_json::from_str(row.try_get("history")?)?,
        first_failed_at: moment(row, "first_failed_at")?,
        last_failed_at: moment(row, "last_failed_at")?,
        kind: row.try_get("error_kind")?,
        error: row.try_get("error")?,
        redrives: row.try_get("redrives")?,
    })
}

fn message(row: &SqliteRow) -> Result<Option<Message>, BoxError> {
    let Some(id) = row.try_get::<Option<Vec<u8>>, _>("id")? else {
        return Ok(None);
    };
    let aggregate: Option<&str> = row.try_get("aggregate")?;
    let retry: Option<&str> = row.try_get("retry")?;
    Ok(Some(Message {
        id: MessageId::from_bytes(id.try_into().map_err(|_| "an id has 16 bytes")?),
        topic: row.try_get("topic")?,
        kind: Kind {
            name: row.try_get("kind")?,
            version: row.try_get("kind_version")?,
        },
        ordering_key: row.try_get("ordering_key")?,
        payload: row.try_get::<Vec<u8>, _>("payload")?.into(),
        content_type: row.try_get("content_type")?,
        headers: serde_json::from_str(row.try_get("headers")?)?,
        aggregate: aggregate.map(serde_json::from_str).transpose()?,
        created_at: moment(row, "created_at")?,
        due_at: moment(row, "due_at")?,
        retry: retry.map(serde_json::from_str).transpose()?,
        sequence: Sequence(row.try_get::<i64, _>("seq")?.unsigned_abs()),
        epoch: Epoch(row.try_get::<i64, _>("epoch")?.unsigned_abs()),
    }))
}

fn moment(row: &SqliteRow, column: &str) -> Result<Timestamp, BoxError> {
    Ok(Timestamp::from_micros(row.try_get(column)?))
}
