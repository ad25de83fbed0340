use std::collections::HashSet;

use async_trait::async_trait;
use outbox_core::error::Result;
use outbox_core::id::MessageId;
use outbox_core::ports::DeliveryLog;
use outbox_core::time::Timestamp;

use crate::codec::jsonb;
use crate::error::Fault;
use crate::purge;
use crate::store::{At, SqliteStore};

/// A [`DeliveryLog`] in an SQLite database, next to the outbox whose deliveries it remembers.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("outbox.db");
/// use outbox_core::id::MessageId;
/// use outbox_core::ports::DeliveryLog;
/// use outbox_core::time::Timestamp;
/// use outbox_sqlite::{SqliteDeliveryLog, SqliteStore};
///
/// let log = SqliteDeliveryLog::on(&SqliteStore::open(&path).await?);
/// let id = MessageId::from_bytes([7; 16]);
/// log.record(&[id], "billing", Timestamp::EPOCH).await?;
/// assert_eq!(log.delivered(&[id], "billing").await?, [true]);
/// assert_eq!(log.delivered(&[id], "search").await?, [false]);
/// # Ok::<_, outbox_core::OutboxError>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct SqliteDeliveryLog {
    store: SqliteStore,
}

const RECORD: &str = "INSERT INTO outbox_deliveries (destination, message_id, delivered_at) \
    SELECT $2, CAST(value AS BLOB), $3 FROM json_each($1) WHERE true \
    ON CONFLICT (destination, message_id) DO UPDATE SET delivered_at = excluded.delivered_at";

const DELIVERED: &str = "SELECT message_id FROM outbox_deliveries \
    WHERE destination = $2 \
        AND message_id IN (SELECT CAST(value AS BLOB) FROM json_each($1))";

const PURGE: &str = "DELETE FROM outbox_deliveries WHERE (destination, message_id) IN ( \
    SELECT destination, message_id FROM outbox_deliveries WHERE delivered_at < $1 \
    ORDER BY delivered_at LIMIT +$2)";

impl SqliteDeliveryLog {
    /// The log in a store that is open.
    #[must_use]
    pub fn on(store: &SqliteStore) -> Self {
        Self {
            store: store.clone(),
        }
    }

    async fn look_up(&self, ids: &[MessageId], destination: &str) -> Result<Vec<bool>, Fault> {
        let mut reader = self.store.reader().await?;
        let known: Vec<Vec<u8>> = sqlx::query_scalar(DELIVERED)
            .bind(list(ids))
            .bind(destination)
            .fetch_all(reader.connection())
            .await?;
        reader.finish();
        let known: HashSet<&[u8]> = known.iter().map(Vec::as_slice).collect();
        Ok(ids
            .iter()
            .map(|id| known.contains(&id.as_bytes()[..]))
            .collect())
    }

    async fn write(
        &self,
        ids: &[MessageId],
        destination: &str,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let mut writer = self.store.writer().await?;
        sqlx::query(RECORD)
            .bind(list(ids))
            .bind(destination)
            .bind(now.as_micros())
            .execute(writer.connection())
            .await?;
        writer.finish();
        Ok(())
    }
}

fn list(ids: &[MessageId]) -> Vec<u8> {
    jsonb::texts(ids.iter().map(|id| id.as_bytes().as_slice()))
}

#[async_trait]
impl DeliveryLog for SqliteDeliveryLog {
    async fn delivered(&self, ids: &[MessageId], destination: &str) -> Result<Vec<bool>> {
        self.look_up(ids, destination)
            .await
            .at(&self.store, "look up deliveries")
    }

    async fn record(&self, ids: &[MessageId], destination: &str, now: Timestamp) -> Result<()> {
        self.write(ids, destination, now)
            .await
            .at(&self.store, "record deliveries")
    }

    async fn purge(&self, before: Timestamp, max: usize) -> Result<u64> {
        let purged = purge::in_chunks(&self.store, PURGE, before, max).await;
        purged.at(&self.store, "purge deliveries")
    }
}
