use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::delivery::Quarantined;
use outbox_core::error::BoxError;
use outbox_core::id::MessageId;
use outbox_core::lease::{EntryId, Epoch, Sequence};
use outbox_core::message::{Kind, Message};
use outbox_core::ports::Queue;
use outbox_core::testing::{QueueCapabilities, QueueHarness, QueueSetup, QueueStore};
use outbox_core::time::Timestamp;
use outbox_sqlite::{SqliteOptions, SqliteQueue, SqliteQueueConfig, SqliteStore};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row, SqliteConnection};
use tempfile::TempDir;

/// Makes queues in files of their own.
pub(crate) struct SqliteHarness;

#[async_trait]
impl QueueHarness for SqliteHarness {
    fn capabilities(&self) -> QueueCapabilities {
        QueueCapabilities::default()
    }

    async fn fresh(&self, setup: QueueSetup) -> Result<Box<dyn QueueStore>, BoxError> {
        let folder = tempfile::tempdir()?;
        Ok(Box::new(Store { folder, setup }))
    }
}

struct Store {
    folder: TempDir,
    setup: QueueSetup,
}

impl Store {
    async fn connect(&self) -> Result<SqliteConnection, BoxError> {
        let path = self.folder.path().join("queue.db");
        Ok(SqliteConnection::connect(path.to_str().ok_or("path")?).await?)
    }
}

#[async_trait]
impl QueueStore for Store {
    async fn open(&self) -> Result<Arc<dyn Queue>, BoxError> {
        let options = SqliteOptions::new(self.folder.path().join("queue.db"))
            .clock(Arc::clone(&self.setup.clock));
        let store = SqliteStore::open_with(options).await?;
        let config = SqliteQueueConfig {
            high_water: self.setup.high_water,
            dedup_window: self.setup.dedup_window,
            ..SqliteQueueConfig::named("kit")
        };
        Ok(Arc::new(SqliteQueue::open(&store, config).await?))
    }

    async fn corrupt(&self, id: MessageId) -> Result<(), BoxError> {
        let mut connection = self.connect().await?;
        let mut changed = 0;
        for table in ["outbox_entries", "outbox_returned"] {
            let sql = format!(
                "UPDATE {table} SET body = substr(body, 1, length(body) - 1) \
                 WHERE place IN (SELECT place FROM outbox_enqueued WHERE id = ?1)"
            );
            let damage = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(&id.as_bytes()[..]);
            changed += damage.execute(&mut connection).await?.rows_affected();
        }
        if changed == 1 {
            return Ok(());
        }
        Err("no such entry".into())
    }

    async fn quarantined(&self) -> Result<Vec<Quarantined>, BoxError> {
        let mut connection = self.connect().await?;
        let rows = sqlx::query("SELECT * FROM outbox_quarantine ORDER BY entry");
        let rows = rows.fetch_all(&mut connection).await?;
        rows.iter().map(quarantined).collect()
    }
}

fn quarantined(row: &SqliteRow) -> Result<Quarantined, BoxError> {
    let place = EntryId {
        major: row.try_get::<i64, _>("place")?.unsigned_abs(),
        minor: 0,
    };
    Ok(Quarantined {
        place: place.to_string(),
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
    let json = |column: &str| row.try_get::<Option<String>, _>(column);
    let parsed = |text: Option<String>| text.map(|text| serde_json::from_str(&text)).transpose();
    Ok(Some(Message {
        id: MessageId::from_bytes(id.try_into().map_err(|_| "id")?),
        topic: row.try_get("topic")?,
        kind: Kind {
            name: row.try_get("kind")?,
            version: row.try_get("kind_version")?,
        },
        ordering_key: row.try_get("ordering_key")?,
        payload: row.try_get::<Vec<u8>, _>("payload")?.into(),
        content_type: row.try_get("content_type")?,
        headers: serde_json::from_str(row.try_get("headers")?)?,
        aggregate: json("aggregate")?
            .map(|text| serde_json::from_str(&text))
            .transpose()?,
        created_at: moment(row, "created_at")?,
        due_at: moment(row, "due_at")?,
        retry: parsed(json("retry")?)?,
        sequence: Sequence(row.try_get::<i64, _>("seq")?.unsigned_abs()),
        epoch: Epoch(row.try_get::<i64, _>("epoch")?.unsigned_abs()),
    }))
}

fn moment(row: &SqliteRow, column: &str) -> Result<Timestamp, BoxError> {
    Ok(Timestamp::from_micros(row.try_get(column)?))
}
