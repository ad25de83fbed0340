//! Worker processes that are killed with `kill -9` at random moments, on one file: nothing is lost,
//! and what their handlers change in the file exists exactly once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::delivery::Delivery;
use outbox_core::error::HandlerError;
use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{
    DeliveryOutcome, DeliverySettlement, DequeueRequest, Handler, Queue, RecoverRequest,
    TransactionalHandler, TransactionalOutbox,
};
use outbox_core::time::{Clock, SystemClock, Timestamp};
use outbox_sqlite::{
    SqliteInbox, SqliteOptions, SqliteOutbox, SqliteQueue, SqliteQueueConfig, SqliteStore,
    Synchronous,
};
use sqlx::{Connection, SqliteConnection};
use tokio::time::{Instant, sleep};

/// The file that a child works on.
const PATH: &str = "OUTBOX_KILL_TEST_PATH";
const MESSAGES: u64 = 1_500;
const LEASE: Duration = Duration::from_millis(300);
/// The time in which the next worker is killed, where workers begin in time.
const SHORTEST: Duration = Duration::from_millis(120);
/// How long the whole may take on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(110);

struct Ledger(SqliteOutbox);

#[async_trait]
impl TransactionalHandler<SqliteConnection> for Ledger {
    async fn handle(
        &self,
        tx: &mut SqliteConnection,
        delivery: &Delivery,
    ) -> Result<(), HandlerError> {
        let book = sqlx::query("INSERT INTO booked (id) VALUES (?1)");
        let book = book.bind(delivery.message.payload.to_vec());
        book.execute(&mut *tx).await.map_err(HandlerError::retry)?;
        let follow_up = NewMessage::new("booked", delivery.message.payload.clone());
        let appended = self.0.append_in(tx, &[follow_up]).await;
        appended.map_err(HandlerError::retry)?;
        Ok(())
    }
}

async fn open(path: &Path) -> (SqliteStore, SqliteQueue) {
    let options = SqliteOptions::new(path).synchronous(Synchronous::Normal);
    let store = SqliteStore::open_with(options).await.unwrap();
    let config = SqliteQueueConfig::default();
    let queue = SqliteQueue::open(&store, config).await.unwrap();
    (store, queue)
}

/// Works on the file until it is killed.
async fn work(path: &Path) {
    let (store, queue) = open(path).await;
    let inbox = SqliteInbox::open(&store, "ledger").await.unwrap();
    let handler = inbox.handler(Ledger(SqliteOutbox::on(&store)));
    let owner = WorkerId::new(&Entropy::from_system());
    loop {
        let recover = RecoverRequest {
            owner,
            max: 7,
            lease: LEASE,
            now: SystemClock.now(),
        };
        let mut deliveries = queue.recover_stuck(&recover).await.unwrap().deliveries;
        let dequeue = DequeueRequest {
            owner,
            max: 7,
            lease: LEASE,
            wait: LEASE,
            now: SystemClock.now(),
        };
        if deliveries.is_empty() {
            deliveries = queue.dequeue(&dequeue).await.unwrap().deliveries;
        }
        for delivery in deliveries {
            handler.handle(&delivery).await.unwrap();
            let settlement = DeliverySettlement {
                receipt: delivery.receipt,
                outcome: DeliveryOutcome::Done,
            };
            queue
                .settle(&[settlement], SystemClock.now())
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
#[ignore = "a worker process that the other test starts and kills"]
async fn worker() {
    if let Ok(path) = std::env::var(PATH) {
        work(Path::new(&path)).await;
    }
}

fn start_worker(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["worker", "--exact", "--ignored"])
        .env(PATH, path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn message(number: u64) -> Message {
    let mut id = [5; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    let new = NewMessage::new("orders", number.to_be_bytes().to_vec());
    Message::appended(&new, MessageId::from_bytes(id), Timestamp::EPOCH)
}

/// Messages booked, different ones among them, and follow-ups.
async fn counts(path: &Path) -> (i64, i64, i64) {
    let mut connection = SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    let counts = sqlx::query_as(
        "SELECT count(*), count(DISTINCT id), (SELECT count(*) FROM outbox_messages) FROM booked",
    );
    counts.fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn killed_workers_lose_nothing_and_book_each_message_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let (_store, queue) = open(&path).await;
    let mut connection = SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    let table = sqlx::query("CREATE TABLE booked (id BLOB NOT NULL) STRICT");
    table.execute(&mut connection).await.unwrap();
    let messages: Vec<_> = (0..MESSAGES).map(message).collect();
    for result in queue.enqueue(&messages).await {
        result.unwrap();
    }

    let entropy = Entropy::from_system();
    let mut workers = vec![start_worker(&path), start_worker(&path)];
    let (began, mut kills) = (Instant::now(), 0);
    let (mut left, mut longest) = (u64::MAX, SHORTEST);
    loop {
        let depth = queue.stats(SystemClock.now()).await.unwrap().depth();
        if depth == 0 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "still not done: {depth} left");
        // On a busy machine a worker may be killed before it has begun: from then on each gets
        // longer.
        if depth >= left {
            longest *= 2;
        }
        left = depth;
        let millis = u64::try_from(longest.as_millis()).unwrap();
        sleep(Duration::from_millis(30 + entropy.next_u64() % millis)).await;
        kill(workers.remove(0));
        workers.push(start_worker(&path));
        kills += 1;
    }
    workers.into_iter().for_each(kill);
    let count = MESSAGES as i64;
    assert_eq!(counts(&path).await, (count, count, count));
    assert_eq!(queue.stats(SystemClock.now()).await.unwrap().quarantined, 0);
    assert!(kills >= 5, "{kills} kills are no trial");
}
