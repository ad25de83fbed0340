//! The shipped worker on the embedded queue: it chains stages, and takes over from the dead in time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::consume::{Consumer, ConsumerConfig, Semantics, Worker, WorkerConfig};
use outbox_core::delivery::Delivery;
use outbox_core::error::HandlerError;
use outbox_core::id::{MessageId, WorkerId};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{
    DequeueRequest, Outbox, Queue, TransactionalHandler, TransactionalOutbox,
};
use outbox_core::signal::Shutdown;
use outbox_core::time::{Clock, SystemClock, Timestamp};
use outbox_sqlite::{SqliteInbox, SqliteOutbox, SqliteQueue, SqliteQueueConfig, SqliteStore};
use sqlx::SqliteConnection;
use tokio::time::{Instant, timeout};

async fn store(folder: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(folder.path().join("work.db"))
        .await
        .unwrap()
}

async fn queue(store: &SqliteStore) -> SqliteQueue {
    let config = SqliteQueueConfig::default();
    SqliteQueue::open(store, config).await.unwrap()
}

fn messages(count: u8) -> Vec<Message> {
    let message = |number: u8| {
        let new = NewMessage::new("orders", vec![number]);
        Message::appended(&new, MessageId::from_bytes([number; 16]), Timestamp::EPOCH)
    };
    (0..count).map(message).collect()
}

async fn enqueue(queue: &SqliteQueue, messages: &[Message]) {
    for result in queue.enqueue(messages).await {
        result.unwrap();
    }
}

/// A stage: what it takes, it sends on.
struct Stage(SqliteOutbox);

#[async_trait]
impl TransactionalHandler<SqliteConnection> for Stage {
    async fn handle(
        &self,
        tx: &mut SqliteConnection,
        delivery: &Delivery,
    ) -> Result<(), HandlerError> {
        let next = NewMessage::new("next", delivery.message.payload.clone());
        let appended = self.0.append_in(tx, &[next]).await;
        appended.map_err(HandlerError::retry)?;
        if delivery.attempt < 2 && delivery.message.payload[0].is_multiple_of(4) {
            return Err(HandlerError::Retry {
                after: Some(Duration::ZERO),
                source: "not yet".into(),
            });
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_stage_passes_each_message_on_once_through_failures_and_redeliveries() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder).await;
    let (queue, outbox) = (queue(&store).await, SqliteOutbox::on(&store));
    let inbox = SqliteInbox::open(&store, "stage").await.unwrap();
    let handler = inbox.handler(Stage(SqliteOutbox::on(&store)));
    let config = ConsumerConfig {
        semantics: Semantics::EffectivelyOnce,
        ..ConsumerConfig::default()
    };
    let consumer = Consumer::new(handler, config).behind_inbox();
    let worker = Worker::new(Arc::new(queue.clone()), consumer, WorkerConfig::default()).unwrap();
    enqueue(&queue, &messages(40)).await;
    let report = worker.run_until_empty(&Shutdown::new()).await.unwrap();
    assert_eq!((report.tally.done, report.tally.retried), (40, 10));
    let stats = outbox.stats(SystemClock.now()).await.unwrap();
    assert_eq!(stats.ready, 40);
}

#[tokio::test]
async fn an_idle_worker_takes_over_from_a_dead_one_as_soon_as_its_lease_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (here, there) = (store(&folder).await, store(&folder).await);
    let dead = queue(&there).await;
    enqueue(&dead, &messages(3)).await;
    let lease = Duration::from_secs(1);
    let request = DequeueRequest {
        owner: WorkerId::from_bytes([9; 16]),
        max: 10,
        lease,
        wait: Duration::ZERO,
        now: SystemClock.now(),
    };
    assert_eq!(dead.dequeue(&request).await.unwrap().deliveries.len(), 3);

    let (handled, mut told) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |delivery: Delivery| {
        let handled = handled.clone();
        async move {
            handled
                .send(delivery.message.id)
                .map_err(HandlerError::retry)
        }
    };
    let consumer = Consumer::new(handler, ConsumerConfig::default());
    let queue = Arc::new(queue(&here).await);
    let worker = Worker::new(queue, consumer, WorkerConfig::default()).unwrap();
    let shutdown = Shutdown::new();
    let (began, stop) = (Instant::now(), shutdown.clone());
    let runs = tokio::spawn(async move { worker.run(&stop).await });
    for _ in 0..3 {
        let one = timeout(Duration::from_secs(10), told.recv()).await;
        assert!(one.expect("it is taken over").is_some());
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    shutdown.trigger();
    runs.await.unwrap().unwrap();
}
