use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::error::{OutboxError, PublishError, Result};
use outbox_core::lease::Receipt;
use outbox_core::message::Message;
use outbox_core::ports::{
    DeliverySettlement, DequeueReport, DequeueRequest, Enqueued, Queue, RecoverRequest,
};
use outbox_core::report::{QueueStats, SettleReport};
use outbox_core::signal::Wake;
use outbox_core::status::Ordering;
use outbox_core::time::Timestamp;

use super::config::SqliteQueueConfig;
use super::purge::Sweep;
use super::room::Room;
use super::span::Span;
use crate::error::Fault;
use crate::store::{At, SqliteStore};

/// A named queue in an SQLite file, read by one consumer group; shared by cloning.
///
/// Any number of queues lie in one file, beside its outbox or without one, and any number of
/// processes may enqueue to and dequeue from each. Entries come in the order in which they were
/// enqueued; what was given back comes again before what was never handed out.
///
/// A power failure may undo claims, never an entry or a settlement that was answered.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("outbox.db");
/// use outbox_core::ports::Queue;
/// use outbox_sqlite::{SqliteQueue, SqliteQueueConfig, SqliteStore};
///
/// let store = SqliteStore::open(&path).await?;
/// let queue = SqliteQueue::open(&store, SqliteQueueConfig::named("orders")).await?;
/// assert_eq!(queue.name(), "orders");
/// # Ok::<_, outbox_core::OutboxError>(()) }).unwrap();
/// ```
#[derive(Clone)]
#[doc(alias = "RedisTaskQueueRepository")]
pub struct SqliteQueue(Arc<Inner>);

pub(super) struct Inner {
    pub(super) store: SqliteStore,
    pub(super) config: SqliteQueueConfig,
    /// The queue's number in its file.
    pub(super) queue: i64,
    pub(super) span: Span,
    pub(super) room: Arc<Room>,
    pub(super) sweep: Mutex<Sweep>,
}

/// The number of the queue with this name, where there is one that knows its high-water mark.
const NUMBER: &str = "SELECT queue FROM outbox_queues WHERE name = ?1 AND high_water = ?2";

const NAMED: &str = "SELECT queue FROM outbox_queues WHERE name = ?1";

/// Gives a queue that has none the next number, and an empty span of places. Its high-water mark is
/// for those who put back what came out of it, and know nothing of its settings.
const REGISTER: &str = "\
    INSERT INTO outbox_queues (queue, name, head, tail, high_water) \
    SELECT next, ?1, next << 48, next << 48, ?2 \
    FROM (SELECT coalesce(max(queue), 0) + 1 AS next FROM outbox_queues) \
    WHERE true ON CONFLICT (name) DO UPDATE SET high_water = excluded.high_water";

impl SqliteQueue {
    /// Opens the queue that `config` names, and makes it where the file has none of that name.
    ///
    /// # Errors
    /// [`OutboxError::Config`] for settings that cannot be used, [`OutboxError::Limit`] for the
    /// 32,768th queue of a file, [`OutboxError::Backend`] where the store failed.
    ///
    /// # Cancel safety
    /// A dropped call may leave the queue behind, empty.
    pub async fn open(store: &SqliteStore, config: SqliteQueueConfig) -> Result<Self> {
        config.check()?;
        let queue = number(store, &config).await;
        let queue = queue.at(store, "open queue")?;
        Ok(Self(Arc::new(Inner {
            span: Span::of(queue)?,
            room: store.rooms().of(queue),
            store: store.clone(),
            config,
            queue,
            sweep: Mutex::default(),
        })))
    }

    /// Forgets ids that were enqueued longer ago than the deduplication window and whose entries
    /// are settled; answers how many. Looks at no more than `max` ids, each call where the last
    /// one ended.
    ///
    /// Enqueuing does this by itself, a few ids at a time; call it where a queue gets nothing new
    /// for long.
    ///
    /// # Errors
    /// [`OutboxError::Backend`] where the store failed.
    ///
    /// # Cancel safety
    /// A dropped call took effect or did not.
    pub async fn purge(&self, now: Timestamp, max: usize) -> Result<u64> {
        self.0.purge(now, max).await.at(&self.0.store, "purge")
    }
}

/// The number of the queue that `config` names, which it is given here where it has none.
async fn number(store: &SqliteStore, config: &SqliteQueueConfig) -> Result<i64, Fault> {
    let SqliteQueueConfig { name, .. } = config;
    let high_water = i64::try_from(config.high_water).unwrap_or(i64::MAX);
    let mut reader = store.reader().await?;
    let known: Option<i64> = sqlx::query_scalar(NUMBER)
        .bind(name)
        .bind(high_water)
        .fetch_optional(reader.connection())
        .await?;
    reader.finish();
    if let Some(queue) = known {
        return Ok(queue);
    }
    let mut writer = store.writer().await?;
    sqlx::query(REGISTER)
        .bind(name)
        .bind(high_water)
        .execute(writer.connection())
        .await?;
    // Another process may have told it another mark by now: the name alone finds it.
    let queue = sqlx::query_scalar(NAMED)
        .bind(name)
        .fetch_one(writer.connection())
        .await?;
    writer.finish();
    Ok(queue)
}

#[async_trait]
impl Queue for SqliteQueue {
    fn name(&self) -> &str {
        &self.0.config.name
    }

    fn ordering(&self) -> Ordering {
        Ordering::Commit
    }

    fn room(&self) -> Option<Wake> {
        Some(self.0.room.wake())
    }

    async fn enqueue(&self, messages: &[Message]) -> Vec<Result<Enqueued, PublishError>> {
        let added = self.0.enqueue(messages).await;
        match added.at(&self.0.store, "enqueue") {
            Ok(results) => results,
            Err(error) => {
                let error: Arc<OutboxError> = Arc::new(error);
                let refuse = |_| Err(PublishError::unavailable(Arc::clone(&error)));
                messages.iter().map(refuse).collect()
            }
        }
    }

    async fn dequeue(&self, request: &DequeueRequest) -> Result<DequeueReport> {
        self.0.dequeue(request).await.at(&self.0.store, "dequeue")
    }

    async fn settle(
        &self,
        settlements: &[DeliverySettlement],
        now: Timestamp,
    ) -> Result<SettleReport> {
        let report = self.0.settle(settlements, now).await;
        report.at(&self.0.store, "settle")
    }

    async fn extend(
        &self,
        receipts: &[Receipt],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Receipt>> {
        let lost = self.0.extend(receipts, now + lease).await;
        lost.at(&self.0.store, "extend")
    }

    async fn recover_stuck(&self, request: &RecoverRequest) -> Result<DequeueReport> {
        let report = self.0.recover_stuck(request).await;
        report.at(&self.0.store, "recover")
    }

    async fn stats(&self, now: Timestamp) -> Result<QueueStats> {
        self.0.stats(now).await.at(&self.0.store, "stats")
    }
}

impl fmt::Debug for SqliteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteQueue")
            .field("config", &self.0.config)
            .field("store", &self.0.store)
            .finish_non_exhaustive()
    }
}
