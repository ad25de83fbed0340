use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox::HandlerError;
use outbox::consume::{Consumer, ConsumerConfig, Semantics, Worker, WorkerConfig};
use outbox::delivery::Delivery;
use outbox::id::MessageId;
use outbox::message::Message;
use outbox::ports::{Queue, TransactionalHandler};
use outbox::signal::Shutdown;
use outbox::sqlite::{
    SqliteDeduplicationCache, SqliteInbox, SqliteOptions, SqliteQueue, SqliteQueueConfig,
    SqliteStore,
};
use outbox::time::{Clock, SystemClock};
use sqlx::SqliteConnection;
use tokio::time::Instant;

use super::trial::{Dress, Trial};
use crate::Scale;
use crate::scene::{fresh, message, remove, runtime};

/// Enqueue into the embedded queue, then work to a handler that does nothing.
#[derive(Clone)]
pub(crate) struct Worked {
    pub(crate) count: usize,
    /// How many are enqueued, fetched and handled at once.
    pub(crate) batch: usize,
    pub(crate) options: fn(SqliteOptions) -> SqliteOptions,
    /// What is changed in each message.
    pub(crate) dress: Dress,
    pub(crate) serial_keys: bool,
    pub(crate) dedup_window: Option<Duration>,
    pub(crate) guard: Guard,
}

/// What keeps a repeated delivery from having a second effect.
#[derive(Clone, Copy)]
pub(crate) enum Guard {
    Nothing,
    Dedup,
    Inbox,
}

impl Worked {
    /// Batches of 500, otherwise all settings as they are by default.
    pub(crate) fn by_default(count: usize) -> Self {
        Self {
            count,
            batch: 500,
            options: |options| options,
            dress: |_, message| message,
            serial_keys: true,
            dedup_window: None,
            guard: Guard::Nothing,
        }
    }

    async fn queue(&self, store: &SqliteStore) -> SqliteQueue {
        let mut config = SqliteQueueConfig::named("bench");
        config.dedup_window = self.dedup_window.unwrap_or(config.dedup_window);
        SqliteQueue::open(store, config).await.unwrap()
    }

    async fn worker(&self, store: &SqliteStore, queue: SqliteQueue) -> Worker {
        let config = WorkerConfig {
            concurrency: self.batch,
            prefetch: self.batch,
            batch: self.batch,
            serial_keys: self.serial_keys,
            ..WorkerConfig::default()
        };
        Worker::new(Arc::new(queue), self.guard.consumer(store).await, config).unwrap()
    }
}

impl Guard {
    async fn consumer(self, store: &SqliteStore) -> Consumer {
        let config = |semantics| ConsumerConfig {
            semantics,
            ..ConsumerConfig::default()
        };
        let once = config(Semantics::EffectivelyOnce);
        match self {
            Self::Nothing => Consumer::new(nothing, config(Semantics::AtLeastOnce)),
            Self::Dedup => {
                let cache = SqliteDeduplicationCache::open(store, "bench").await;
                Consumer::new(nothing, once).dedup(Arc::new(cache.unwrap()))
            }
            Self::Inbox => {
                let inbox = SqliteInbox::open(store, "bench").await.unwrap();
                Consumer::new(inbox.handler(InTransaction), once).behind_inbox()
            }
        }
    }
}

async fn nothing(_: Delivery) -> Result<(), HandlerError> {
    Ok(())
}

struct InTransaction;

#[async_trait]
impl TransactionalHandler<SqliteConnection> for InTransaction {
    async fn handle(&self, _: &mut SqliteConnection, _: &Delivery) -> Result<(), HandlerError> {
        Ok(())
    }
}

impl Trial for Worked {
    const HALVES: [&str; 2] = ["enqueue", "work"];

    fn rates(&self, scale: &Scale) -> [f64; 2] {
        let path = fresh(scale, "worked");
        let messages = messages(scale, self.count, self.dress);
        let times = runtime().block_on(async {
            let options = SqliteOptions::new(&path).entropy(scale.entropy());
            let store = SqliteStore::open_with((self.options)(options));
            let store = store.await.unwrap();
            let queue = self.queue(&store).await;
            let started = Instant::now();
            enqueue(&queue, &messages, self.batch).await;
            let enqueued = started.elapsed();
            let worker = self.worker(&store, queue).await;
            let started = Instant::now();
            let report = worker.run_until_empty(&Shutdown::new()).await.unwrap();
            assert_eq!(report.tally.done, self.count as u64);
            [enqueued, started.elapsed()]
        });
        remove(&path);
        times.map(|time| self.count as f64 / time.as_secs_f64())
    }
}

pub(crate) fn messages(scale: &Scale, count: usize, dress: Dress) -> Vec<Message> {
    let (entropy, now) = (scale.entropy(), SystemClock.now());
    let made = |number| {
        let new = dress(number, message(number));
        Message::appended(&new, MessageId::new(now, &entropy), now)
    };
    (0..count).map(made).collect()
}

pub(crate) async fn enqueue(queue: &SqliteQueue, messages: &[Message], batch: usize) {
    for batch in messages.chunks(batch) {
        for result in queue.enqueue(batch).await {
            result.unwrap();
        }
    }
}
