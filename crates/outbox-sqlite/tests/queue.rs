//! The queue over several stores on one file: what is noticed when, and what a long queue costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use outbox_core::delivery::Delivery;
use outbox_core::id::{MessageId, WorkerId};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{
    DeliveryOutcome, DeliverySettlement, DequeueRequest, Enqueued, Queue, RecoverRequest,
};
use outbox_core::time::{Clock, ManualClock, SystemClock, Timestamp};
use outbox_sqlite::{SqliteOptions, SqliteQueue, SqliteQueueConfig, SqliteStore, Synchronous};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

const MINE: WorkerId = WorkerId::from_bytes([1; 16]);
const THEIRS: WorkerId = WorkerId::from_bytes([2; 16]);
const LEASE: Duration = Duration::from_secs(30);

/// A folder for one database file.
struct Place {
    folder: TempDir,
    clock: Arc<dyn Clock>,
}

impl Place {
    fn new() -> Self {
        Self::at(Arc::new(SystemClock))
    }

    fn at(clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, clock }
    }

    /// A store that shares no memory with any other.
    async fn store(&self) -> SqliteStore {
        let options = SqliteOptions::new(self.folder.path().join("queue.db"))
            .synchronous(Synchronous::Normal)
            .clock(Arc::clone(&self.clock));
        SqliteStore::open_with(options).await.unwrap()
    }

    /// A queue on a store of its own.
    async fn queue(&self) -> SqliteQueue {
        let config = SqliteQueueConfig::default();
        SqliteQueue::open(&self.store().await, config)
            .await
            .unwrap()
    }

    async fn count(&self, table: &str) -> i64 {
        let path = self.folder.path().join("queue.db");
        let mut connection = SqliteConnection::connect(path.to_str().unwrap())
            .await
            .unwrap();
        let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let count = sqlx::query_scalar(sql);
        count.fetch_one(&mut connection).await.unwrap()
    }
}

fn message(number: u64) -> Message {
    let mut id = [3; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    let new = NewMessage::new("t", number.to_string());
    Message::appended(&new, MessageId::from_bytes(id), Timestamp::EPOCH)
}

fn messages(numbers: std::ops::Range<u64>) -> Vec<Message> {
    numbers.map(message).collect()
}

fn request(owner: WorkerId, max: usize, wait: Duration) -> DequeueRequest {
    DequeueRequest {
        owner,
        max,
        lease: LEASE,
        wait,
        now: SystemClock.now(),
    }
}

async fn enqueue(queue: &SqliteQueue, messages: &[Message]) -> usize {
    let results = queue.enqueue(messages).await;
    let added = results
        .into_iter()
        .filter(|result| matches!(result, Ok(Enqueued::Added)));
    added.count()
}

async fn dequeue(queue: &SqliteQueue, owner: WorkerId, max: usize) -> Vec<Delivery> {
    let asked = request(owner, max, Duration::ZERO);
    queue.dequeue(&asked).await.unwrap().deliveries
}

async fn settle(queue: &SqliteQueue, deliveries: &[Delivery], outcome: DeliveryOutcome) -> u64 {
    let settlement = |delivery: &Delivery| DeliverySettlement {
        receipt: delivery.receipt,
        outcome: outcome.clone(),
    };
    let settlements: Vec<_> = deliveries.iter().map(settlement).collect();
    let report = queue.settle(&settlements, SystemClock.now()).await;
    report.unwrap().settled
}

#[tokio::test]
async fn a_waiting_dequeue_hears_of_another_stores_enqueue_within_5_ms() {
    let place = Place::new();
    let (here, there) = (place.queue().await, place.queue().await);
    let mut delays = Vec::new();
    for round in 0..31 {
        let waiting = here.clone();
        let waiting = tokio::spawn(async move {
            let asked = request(MINE, 1, Duration::from_secs(5));
            let report = waiting.dequeue(&asked).await.unwrap();
            (report.deliveries.len(), Instant::now())
        });
        sleep(Duration::from_millis(20)).await;
        assert_eq!(enqueue(&there, &[message(round)]).await, 1);
        let enqueued = Instant::now();
        let (count, delivered) = waiting.await.unwrap();
        assert_eq!(count, 1);
        delays.push(delivered.saturating_duration_since(enqueued));
    }
    delays.sort();
    assert!(delays[15] < Duration::from_millis(5), "{delays:?}");
}

#[tokio::test]
async fn a_delay_made_through_another_store_is_met_on_time() {
    let place = Place::new();
    let (here, there) = (place.queue().await, place.queue().await);
    enqueue(&there, &[message(1)]).await;
    let held = dequeue(&there, THEIRS, 1).await;
    let pause = Duration::from_millis(300);
    let asked = request(MINE, 1, Duration::from_secs(10));
    let gives_back = async {
        sleep(Duration::from_millis(50)).await;
        let due_at = SystemClock.now() + pause;
        settle(&there, &held, DeliveryOutcome::Delay { due_at }).await;
        Instant::now() + pause
    };
    let takes = async {
        let report = here.dequeue(&asked).await.unwrap();
        assert_eq!(report.deliveries.len(), 1);
        Instant::now()
    };
    let (due, taken) = tokio::join!(gives_back, takes);
    let early = due.saturating_duration_since(taken);
    let late = taken.saturating_duration_since(due);
    assert!(early < Duration::from_millis(20), "{early:?} early");
    assert!(late < Duration::from_millis(100), "{late:?} late");
}

#[tokio::test]
async fn a_waiting_dequeue_ends_when_the_lease_of_a_dead_worker_does() {
    let place = Place::new();
    let (here, there) = (place.queue().await, place.queue().await);
    let began = Instant::now();
    let lease = Duration::from_millis(400);
    let dies = async {
        sleep(Duration::from_millis(50)).await;
        // The message wakes whoever waits; so it is claimed in the same breath.
        enqueue(&there, &[message(1)]).await;
        let asked = DequeueRequest {
            lease,
            ..request(THEIRS, 1, Duration::ZERO)
        };
        there.dequeue(&asked).await.unwrap().deliveries.len()
    };
    let asked = request(MINE, 1, Duration::from_secs(20));
    let (report, stolen) = tokio::join!(here.dequeue(&asked), dies);
    let report = report.unwrap();
    assert_eq!(report.deliveries.len() + stolen, 1, "one of both has it");
    if stolen == 1 {
        assert!(report.next_expiry.unwrap() <= SystemClock.now());
        let takeover = RecoverRequest {
            owner: MINE,
            max: 10,
            lease: LEASE,
            now: SystemClock.now(),
        };
        let report = here.recover_stuck(&takeover).await.unwrap();
        assert_eq!(report.deliveries.len(), 1);
    }
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn who_never_recovers_what_is_stuck_waits_all_the_same() {
    let place = Place::new();
    let queue = place.queue().await;
    enqueue(&queue, &[message(1)]).await;
    let asked = DequeueRequest {
        lease: Duration::ZERO,
        ..request(THEIRS, 1, Duration::ZERO)
    };
    queue.dequeue(&asked).await.unwrap();
    let began = Instant::now();
    let asked = request(MINE, 1, Duration::from_secs(5));
    let report = queue.dequeue(&asked).await.unwrap();
    assert!(report.deliveries.is_empty() && report.next_expiry.is_some());
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(50), "{waited:?}");
    assert!(waited < Duration::from_secs(2), "{waited:?}");
}

#[tokio::test]
async fn a_hundred_thousand_entries_and_as_many_ids_are_kept_apart() {
    let place = Place::new();
    let queue = place.queue().await;
    for batch in 0..10 {
        let batch = messages(batch * 10_000..(batch + 1) * 10_000);
        assert_eq!(enqueue(&queue, &batch).await, 10_000);
    }
    let first = dequeue(&queue, MINE, 500).await;
    let sent = first.iter().map(|delivery| &*delivery.message);
    assert!(sent.eq(messages(0..500).iter()));
    let due_at = SystemClock.now();
    let back = settle(&queue, &first[..250], DeliveryOutcome::Delay { due_at }).await;
    let done = settle(&queue, &first[250..], DeliveryOutcome::Done).await;
    assert_eq!((back, done), (250, 250));
    let next = dequeue(&queue, MINE, 500).await;
    let numbers = messages(0..250).into_iter().chain(messages(500..750));
    assert!(next.iter().map(|d| (*d.message).clone()).eq(numbers));
    let stats = queue.stats(SystemClock.now()).await.unwrap();
    assert_eq!((stats.depth(), stats.in_flight), (99_750, 500));
}

#[tokio::test]
async fn a_batch_of_great_payloads_comes_in_parts() {
    let place = Place::new();
    let queue = place.queue().await;
    let great = |number| Message {
        payload: vec![7; 1 << 20].into(),
        ..message(number)
    };
    let sent: Vec<_> = (0..20).map(great).collect();
    assert_eq!(enqueue(&queue, &sent).await, 20);
    let mut received = Vec::new();
    while received.len() < 20 {
        let part = dequeue(&queue, MINE, 500).await;
        assert!((1..=18).contains(&part.len()), "{} at once", part.len());
        // Some come again, from rows of their own.
        let (again, done) = part.split_at(part.len() / 2);
        let due_at = SystemClock.now();
        settle(&queue, again, DeliveryOutcome::Delay { due_at }).await;
        settle(&queue, done, DeliveryOutcome::Done).await;
        received.extend(done.iter().map(|delivery| delivery.message.id));
    }
    received.sort();
    let expected: Vec<_> = sent.iter().map(|message| message.id).collect();
    assert_eq!(received, expected);
}

#[tokio::test]
async fn queues_of_one_file_know_nothing_of_each_other() {
    let place = Place::new();
    let store = place.store().await;
    let open = async |name| {
        let config = SqliteQueueConfig::named(name);
        SqliteQueue::open(&store, config).await.unwrap()
    };
    let (left, right) = (open("left").await, open("right").await);
    assert_eq!(enqueue(&left, &messages(0..3)).await, 3);
    assert_eq!(enqueue(&right, &messages(0..2)).await, 2);
    let mine = dequeue(&left, MINE, 10).await;
    assert_eq!(settle(&right, &mine, DeliveryOutcome::Done).await, 0);
    assert_eq!(dequeue(&right, MINE, 10).await.len(), 2);
    assert_eq!(settle(&left, &mine, DeliveryOutcome::Done).await, 3);
    let depth = async |queue: &SqliteQueue| {
        let stats = queue.stats(SystemClock.now()).await.unwrap();
        stats.depth()
    };
    assert_eq!((depth(&left).await, depth(&right).await), (0, 2));
}

#[tokio::test]
async fn a_queue_is_the_same_under_its_name_however_often_it_is_opened() {
    let place = Place::new();
    let (one, other) = tokio::join!(place.queue(), place.queue());
    enqueue(&one, &messages(0..2)).await;
    assert_eq!(dequeue(&other, MINE, 10).await.len(), 2);
    assert_eq!(place.count("outbox_queues").await, 1);
}

/// A queue whose window is a minute, and the clock that it goes by.
async fn forgetful() -> (Place, SqliteQueue, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let place = Place::at(clock.clone());
    let config = SqliteQueueConfig {
        dedup_window: Duration::from_secs(60),
        ..SqliteQueueConfig::default()
    };
    let queue = SqliteQueue::open(&place.store().await, config)
        .await
        .unwrap();
    (place, queue, clock)
}

#[tokio::test]
async fn purging_forgets_old_ids_in_bounded_batches_and_none_of_an_unsettled_entry() {
    let (place, queue, clock) = forgetful().await;
    enqueue(&queue, &messages(0..1_000)).await;
    let held = dequeue(&queue, MINE, 1_000).await;
    settle(&queue, &held[10..], DeliveryOutcome::Done).await;
    assert_eq!(queue.purge(clock.now(), 5_000).await.unwrap(), 0);
    clock.advance(Duration::from_secs(61));
    let bounded = queue.purge(clock.now(), 300).await.unwrap();
    assert!((200..=300).contains(&bounded), "{bounded}");
    let rest = queue.purge(clock.now(), 5_000).await.unwrap();
    assert_eq!(bounded + rest, 990);
    assert_eq!(place.count("outbox_enqueued").await, 10);
    assert_eq!(enqueue(&queue, &messages(0..20)).await, 10);
}

#[tokio::test]
async fn a_steady_stream_forgets_as_much_as_it_adds() {
    let (place, queue, clock) = forgetful().await;
    for minute in 0..20 {
        clock.advance(Duration::from_secs(61));
        for batch in 0..4 {
            let first = minute * 1_000 + batch * 250;
            enqueue(&queue, &messages(first..first + 250)).await;
        }
        let all = dequeue(&queue, MINE, 1_000).await;
        assert_eq!(
            settle(&queue, &all, DeliveryOutcome::Done).await,
            all.len() as u64
        );
    }
    let remembered = place.count("outbox_enqueued").await;
    assert!(remembered <= 4_000, "{remembered} of 20,000 ids");
}

#[tokio::test]
async fn a_store_that_fails_makes_enqueue_unavailable_and_no_message_lost() {
    let place = Place::new();
    let queue = place.queue().await;
    std::fs::remove_file(place.folder.path().join("queue.db")).unwrap();
    let results = queue.enqueue(&messages(0..2)).await;
    assert_eq!(results.len(), 2);
    for result in results {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), "unavailable", "{error}");
    }
}

#[tokio::test]
async fn a_queue_whose_books_are_gone_takes_nothing_and_touches_no_other() {
    let place = Place::new();
    let store = place.store().await;
    let open = async |name| {
        let config = SqliteQueueConfig::named(name);
        SqliteQueue::open(&store, config).await.unwrap()
    };
    let (queue, other) = (open("gone").await, open("other").await);
    // What is old is looked for with the first batch of a queue, and not with the next.
    assert_eq!(enqueue(&queue, &messages(0..1)).await, 1);
    let path = place.folder.path().join("queue.db");
    let mut connection = SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    sqlx::query("DELETE FROM outbox_queues WHERE name = 'gone'")
        .execute(&mut connection)
        .await
        .unwrap();
    let answers = queue.enqueue(&messages(1..3)).await;
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
    assert_eq!(place.count("outbox_entries").await, 1);
    assert_eq!(enqueue(&other, &messages(1..3)).await, 2);
    assert_eq!(dequeue(&other, MINE, 10).await.len(), 2);
}
