//! What a handler changes exists exactly once, whatever happens between its steps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::OutboxError;
use outbox_core::delivery::Delivery;
use outbox_core::error::{HandlerError, error_text};
use outbox_core::id::{MessageId, WorkerId};
use outbox_core::lease::{EntryId, Receipt};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{
    DeliveryOutcome, DeliverySettlement, DequeueRequest, Handled, Handler, Outbox, Queue,
    RecoverRequest, TransactionalHandler, TransactionalOutbox,
};
use outbox_core::time::{Clock, ManualClock, SystemClock, Timestamp};
use outbox_sqlite::{
    InboxHandler, SqliteInbox, SqliteOptions, SqliteOutbox, SqliteQueue, SqliteQueueConfig,
    SqliteStore, Synchronous,
};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

/// How a [`Ledger`] ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Well,
    Badly,
    Panic,
}

/// Books the message's id, and appends a follow-up.
struct Ledger {
    outbox: SqliteOutbox,
    ending: Ending,
    slow: Duration,
    overlap: Arc<AtomicBool>,
    busy: AtomicBool,
}

#[async_trait]
impl TransactionalHandler<SqliteConnection> for Ledger {
    async fn handle(
        &self,
        tx: &mut SqliteConnection,
        delivery: &Delivery,
    ) -> Result<(), HandlerError> {
        if self.busy.swap(true, Ordering::SeqCst) {
            self.overlap.store(true, Ordering::SeqCst);
        }
        sqlx::query("INSERT INTO booked (id) VALUES (?1)")
            .bind(&delivery.message.id.as_bytes()[..])
            .execute(&mut *tx)
            .await
            .map_err(HandlerError::retry)?;
        let follow_up = NewMessage::new("booked", delivery.message.payload.clone());
        let appended = self.outbox.append_in(tx, &[follow_up]).await;
        appended.map_err(HandlerError::retry)?;
        tokio::time::sleep(self.slow).await;
        self.busy.store(false, Ordering::SeqCst);
        match self.ending {
            Ending::Well => Ok(()),
            Ending::Badly => Err(HandlerError::reject("the books do not balance")),
            Ending::Panic => panic!("the ink is out"),
        }
    }
}

struct Desk {
    _folder: TempDir,
    clock: Arc<ManualClock>,
    store: SqliteStore,
    inbox: SqliteInbox,
}

impl Desk {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(SystemClock.now()));
        let options = SqliteOptions::new(folder.path().join("desk.db"))
            .synchronous(Synchronous::Normal)
            .busy_timeout(Duration::from_millis(250))
            .clock(clock.clone());
        let store = SqliteStore::open_with(options).await.unwrap();
        let inbox = SqliteInbox::open(&store, "ledger").await.unwrap();
        let desk = Self {
            _folder: folder,
            clock,
            store,
            inbox,
        };
        // No constraint keeps an id from being booked twice: the inbox alone does.
        let table = sqlx::query("CREATE TABLE booked (id BLOB NOT NULL) STRICT");
        table.execute(&mut desk.connect().await).await.unwrap();
        desk
    }

    async fn connect(&self) -> SqliteConnection {
        let path = self.store.path().to_str().unwrap();
        SqliteConnection::connect(path).await.unwrap()
    }

    fn ledger(&self, ending: Ending) -> Ledger {
        Ledger {
            outbox: SqliteOutbox::on(&self.store),
            ending,
            slow: Duration::ZERO,
            overlap: Arc::default(),
            busy: AtomicBool::new(false),
        }
    }

    fn handler(&self, ending: Ending) -> InboxHandler<Ledger> {
        self.inbox.handler(self.ledger(ending))
    }

    /// Booked ids, follow-ups, and records.
    async fn counts(&self) -> (i64, i64, i64) {
        let mut connection = self.connect().await;
        let counts = sqlx::query_as(
            "SELECT (SELECT count(*) FROM booked), (SELECT count(*) FROM outbox_messages), \
             (SELECT count(*) FROM outbox_inbox)",
        );
        counts.fetch_one(&mut connection).await.unwrap()
    }
}

fn message(number: u8) -> Message {
    let new = NewMessage::new("orders", vec![number]);
    Message::appended(&new, MessageId::from_bytes([number; 16]), Timestamp::EPOCH)
}

fn delivery(number: u8) -> Delivery {
    Delivery {
        message: message(number).into(),
        receipt: Receipt {
            entry: EntryId { major: 1, minor: 0 },
            owner: WorkerId::from_bytes([1; 16]),
            token: 1,
        },
        attempt: 1,
        takeovers: 0,
        last_failure: None,
        enqueued_at: Timestamp::EPOCH,
    }
}

#[tokio::test]
async fn a_message_is_handled_once_however_often_it_comes() {
    let desk = Desk::new().await;
    let handler = desk.handler(Ending::Well);
    for expected in [Handled::Done, Handled::Duplicate, Handled::Duplicate] {
        assert_eq!(handler.handle(&delivery(1)).await.unwrap(), expected);
    }
    handler.handle(&delivery(2)).await.unwrap();
    assert_eq!(desk.counts().await, (2, 2, 2));
}

#[tokio::test]
async fn a_crash_between_the_commit_and_the_acknowledgement_doubles_nothing() {
    let desk = Desk::new().await;
    let config = SqliteQueueConfig::default();
    let queue = SqliteQueue::open(&desk.store, config).await.unwrap();
    queue.enqueue(&[message(1)]).await;
    let (lease, now) = (Duration::from_secs(3), SystemClock.now());
    let asked = DequeueRequest {
        owner: WorkerId::from_bytes([1; 16]),
        max: 1,
        lease,
        wait: Duration::ZERO,
        now,
    };
    let first = queue.dequeue(&asked).await.unwrap().deliveries;
    let handler = desk.handler(Ending::Well);
    handler.handle(&first[0]).await.unwrap();

    // The worker dies here; another takes over.
    let takeover = RecoverRequest {
        owner: WorkerId::from_bytes([2; 16]),
        max: 1,
        lease,
        now: now + lease,
    };
    let again = queue.recover_stuck(&takeover).await.unwrap().deliveries;
    assert_eq!(again[0].message, first[0].message);
    handler.handle(&again[0]).await.unwrap();
    let settlement = DeliverySettlement {
        receipt: again[0].receipt,
        outcome: DeliveryOutcome::Done,
    };
    let report = queue.settle(&[settlement], now + lease).await.unwrap();
    assert_eq!(report.settled, 1);
    assert_eq!(desk.counts().await, (1, 1, 1));
}

/// Polls `future` as often as it wakes, but no more than `polls` times; whether it ended.
async fn poll_only(
    polls: usize,
    future: impl Future<Output = Result<Handled, HandlerError>>,
) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(done.is_ok()),
            Poll::Pending if left == 0 => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn dying_at_any_await_leaves_all_of_the_effects_or_none() {
    let desk = Desk::new().await;
    let handler = desk.handler(Ending::Well);
    let mut ended = 0;
    for polls in 0..60 {
        let number = u8::try_from(polls).unwrap();
        ended += usize::from(poll_only(polls, handler.handle(&delivery(number))).await);
        let (booked, follow_ups, records) = desk.counts().await;
        assert!(booked == follow_ups && booked == records, "after {polls}");
        handler.handle(&delivery(number)).await.unwrap();
        let all = i64::from(number) + 1;
        assert_eq!(desk.counts().await, (all, all, all), "after {polls}");
    }
    assert!(ended > 0, "the last of them ran to their ends");
}

#[tokio::test]
async fn a_handler_that_fails_leaves_nothing_and_may_try_again() {
    let desk = Desk::new().await;
    let refused = desk.handler(Ending::Badly).handle(&delivery(1)).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, HandlerError::Reject(_)), "{error}");
    assert_eq!(desk.counts().await, (0, 0, 0));
    let handler = desk.handler(Ending::Well);
    handler.handle(&delivery(1)).await.unwrap();
    assert_eq!(desk.counts().await, (1, 1, 1));
}

#[tokio::test]
async fn a_handler_that_panics_leaves_nothing_and_the_next_one_works() {
    let desk = Desk::new().await;
    let handler = desk.handler(Ending::Panic);
    let panics = tokio::spawn(async move { handler.handle(&delivery(1)).await });
    assert!(panics.await.unwrap_err().is_panic());
    assert_eq!(desk.counts().await, (0, 0, 0));
    let handler = desk.handler(Ending::Well);
    handler.handle(&delivery(1)).await.unwrap();
    assert_eq!(desk.counts().await, (1, 1, 1));
}

#[tokio::test]
async fn a_handler_that_is_dropped_at_its_timeout_leaves_nothing() {
    let desk = Desk::new().await;
    let slow = Ledger {
        slow: Duration::from_secs(60),
        ..desk.ledger(Ending::Well)
    };
    let handler = desk.inbox.handler(slow);
    let limit = Duration::from_millis(100);
    let ended = tokio::time::timeout(limit, handler.handle(&delivery(1))).await;
    assert!(ended.is_err());
    assert_eq!(desk.counts().await, (0, 0, 0));
    let handler = desk.handler(Ending::Well);
    handler.handle(&delivery(1)).await.unwrap();
}

#[tokio::test]
async fn handlers_wait_for_each_other_longer_than_for_the_database() {
    let desk = Desk::new().await;
    // Twelve of these take more than twice the busy timeout.
    let slow = Ledger {
        slow: Duration::from_millis(50),
        ..desk.ledger(Ending::Well)
    };
    let overlap = Arc::clone(&slow.overlap);
    let handler = Arc::new(desk.inbox.handler(slow));
    let mut handlers = tokio::task::JoinSet::new();
    for number in 0..12 {
        let handler = Arc::clone(&handler);
        handlers.spawn(async move { handler.handle(&delivery(number)).await });
    }
    for handled in handlers.join_all().await {
        handled.unwrap();
    }
    assert!(!overlap.load(Ordering::SeqCst));
    assert_eq!(desk.counts().await, (12, 12, 12));
}

#[tokio::test]
async fn follow_ups_wake_the_relay() {
    let desk = Desk::new().await;
    let outbox = SqliteOutbox::on(&desk.store);
    let mut wakes = outbox.wake().listen();
    wakes.mark_seen();
    let handler = desk.handler(Ending::Well);
    handler.handle(&delivery(1)).await.unwrap();
    let woken = tokio::time::timeout(Duration::from_secs(5), wakes.notified());
    woken.await.expect("the relay is woken");
}

#[tokio::test]
async fn consumers_of_other_names_handle_every_message() {
    let desk = Desk::new().await;
    let handler = desk.handler(Ending::Well);
    handler.handle(&delivery(1)).await.unwrap();
    let other = SqliteInbox::open(&desk.store, "auditor").await.unwrap();
    let other = other.handler(desk.ledger(Ending::Well));
    other.handle(&delivery(1)).await.unwrap();
    assert_eq!(desk.counts().await, (2, 2, 2));
}

#[tokio::test]
async fn a_record_in_the_callers_transaction_lives_and_dies_with_it() {
    let desk = Desk::new().await;
    let id = MessageId::from_bytes([9; 16]);
    let mut connection = desk.connect().await;
    let mut rolled_back = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    assert!(desk.inbox.record_in(&mut rolled_back, id).await.unwrap());
    assert!(!desk.inbox.record_in(&mut rolled_back, id).await.unwrap());
    rolled_back.rollback().await.unwrap();
    let mut committed = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    assert!(desk.inbox.record_in(&mut committed, id).await.unwrap());
    committed.commit().await.unwrap();
    let mut third = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
    assert!(!desk.inbox.record_in(&mut third, id).await.unwrap());
}

#[tokio::test]
async fn a_record_outside_a_transaction_is_refused() {
    let desk = Desk::new().await;
    let mut connection = desk.connect().await;
    let id = MessageId::from_bytes([9; 16]);
    let refused = desk.inbox.record_in(&mut connection, id).await.unwrap_err();
    assert!(matches!(refused, OutboxError::Backend { .. }), "{refused}");
    let text = error_text(&refused, 1_000);
    assert!(text.contains("not inside a transaction"), "{text}");
    assert_eq!(desk.counts().await, (0, 0, 0));
}

#[tokio::test]
async fn records_are_kept_for_their_lifetime_and_go_in_bounded_batches() {
    let mut desk = Desk::new().await;
    desk.inbox = desk.inbox.lifetime(Duration::from_secs(60));
    let handler = desk.handler(Ending::Well);
    for number in 0..10 {
        handler.handle(&delivery(number)).await.unwrap();
    }
    let purge = async |max| desk.inbox.purge(desk.clock.now(), max).await.unwrap();
    assert_eq!(purge(100).await, 0);
    desk.clock.advance(Duration::from_secs(61));
    assert_eq!(purge(4).await, 4);
    assert_eq!(purge(100).await, 6);
    handler.handle(&delivery(1)).await.unwrap();
    assert_eq!(desk.counts().await.2, 1);
}

#[tokio::test]
async fn a_steady_stream_of_messages_forgets_what_is_old() {
    let mut desk = Desk::new().await;
    desk.inbox = desk.inbox.lifetime(Duration::from_secs(60));
    let handler = desk.handler(Ending::Well);
    for number in 0..200 {
        desk.clock.advance(Duration::from_secs(5));
        handler.handle(&delivery(number)).await.unwrap();
    }
    let (_, _, records) = desk.counts().await;
    assert!(records <= 40, "{records} records of 200");
}
