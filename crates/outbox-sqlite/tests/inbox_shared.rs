//! Handlers that share a commit share nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use outbox_core::delivery::Delivery;
use outbox_core::error::HandlerError;
use outbox_core::id::{MessageId, WorkerId};
use outbox_core::lease::{EntryId, Receipt};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{Handled, Handler, TransactionalHandler, TransactionalOutbox};
use outbox_core::time::Timestamp;
use outbox_sqlite::{InboxHandler, SqliteInbox, SqliteOutbox, SqliteStore};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

/// Books the message's number and appends a follow-up; then does what the message's topic says.
struct Clerk {
    outbox: SqliteOutbox,
    commits: Arc<AtomicUsize>,
    forbidden: Arc<AtomicBool>,
    hooked: AtomicBool,
}

#[async_trait]
impl TransactionalHandler<SqliteConnection> for Clerk {
    async fn handle(
        &self,
        tx: &mut SqliteConnection,
        delivery: &Delivery,
    ) -> Result<(), HandlerError> {
        self.count_commits(tx).await;
        sqlx::query("INSERT INTO booked (number) VALUES (?1)")
            .bind(number(delivery))
            .execute(&mut *tx)
            .await
            .map_err(HandlerError::retry)?;
        let follow_up = NewMessage::new("booked", delivery.message.payload.clone());
        let appended = self.outbox.append_in(tx, &[follow_up]).await;
        appended.map_err(HandlerError::retry)?;
        match delivery.message.topic.as_str() {
            "reject" => Err(HandlerError::reject("never")),
            "retry" => Err(HandlerError::retry("later")),
            "panic" => panic!("the ink is out"),
            "hang" => std::future::pending().await,
            "end" => end(tx).await,
            _ => Ok(()),
        }
    }
}

impl Clerk {
    /// Counts the commits of the connection from here on, and lets none through while they are
    /// forbidden.
    async fn count_commits(&self, tx: &mut SqliteConnection) {
        if self.hooked.swap(true, Ordering::SeqCst) {
            return;
        }
        let (commits, forbidden) = (Arc::clone(&self.commits), Arc::clone(&self.forbidden));
        tx.lock_handle().await.unwrap().set_commit_hook(move || {
            commits.fetch_add(1, Ordering::SeqCst);
            !forbidden.load(Ordering::SeqCst)
        });
    }
}

/// What no handler is to do, and what SQLite may do by itself.
async fn end(tx: &mut SqliteConnection) -> Result<(), HandlerError> {
    let ended = sqlx::raw_sql("ROLLBACK").execute(tx).await;
    ended.map(drop).map_err(HandlerError::retry)
}

struct Office {
    _folder: TempDir,
    store: SqliteStore,
    commits: Arc<AtomicUsize>,
    forbidden: Arc<AtomicBool>,
    handler: InboxHandler<Clerk>,
}

impl Office {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("office.db");
        let store = SqliteStore::open(path).await.unwrap();
        let inbox = SqliteInbox::open(&store, "clerk").await.unwrap();
        let (commits, forbidden) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let clerk = Clerk {
            outbox: SqliteOutbox::on(&store),
            commits: Arc::clone(&commits),
            forbidden: Arc::clone(&forbidden),
            hooked: AtomicBool::new(false),
        };
        let office = Self {
            _folder: folder,
            handler: inbox.handler(clerk),
            store,
            commits,
            forbidden,
        };
        let table = sqlx::query("CREATE TABLE booked (number INTEGER NOT NULL) STRICT");
        table.execute(&mut office.connect().await).await.unwrap();
        office
    }

    async fn connect(&self) -> SqliteConnection {
        let path = self.store.path().to_str().unwrap();
        SqliteConnection::connect(path).await.unwrap()
    }

    /// Has a message of this topic handled; what was answered, where it did not panic or hang.
    async fn handle(&self, number: u32, topic: &str) -> Option<Result<Handled, HandlerError>> {
        let delivery = delivery(number, topic);
        let handling = self.handler.handle(&delivery);
        let limit = Duration::from_millis(if topic == "hang" { 50 } else { 10_000 });
        let limited = tokio::time::timeout(limit, handling);
        let caught = std::panic::AssertUnwindSafe(limited).catch_unwind();
        caught.await.ok()?.ok()
    }

    /// The numbers that are booked; each has its follow-up and its record, and is there once.
    async fn booked(&self) -> BTreeSet<u32> {
        let mut connection = self.connect().await;
        let booked: Vec<u32> = sqlx::query_scalar("SELECT number FROM booked")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let counts: (u32, u32) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM outbox_messages), (SELECT count(*) FROM outbox_inbox)",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        let count = u32::try_from(booked.len()).unwrap();
        assert_eq!(counts, (count, count), "effects, follow-ups, records");
        let numbers: BTreeSet<u32> = booked.into_iter().collect();
        assert_eq!(numbers.len(), count as usize, "nothing is booked twice");
        numbers
    }
}

fn number(delivery: &Delivery) -> u32 {
    let bytes = delivery.message.payload.first_chunk().unwrap();
    u32::from_le_bytes(*bytes)
}

fn delivery(number: u32, topic: &str) -> Delivery {
    let mut id = [7; 16];
    id[..4].copy_from_slice(&number.to_le_bytes());
    let new = NewMessage::new(topic, number.to_le_bytes().to_vec());
    Delivery {
        message: Message::appended(&new, MessageId::from_bytes(id), Timestamp::EPOCH).into(),
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
async fn handlers_that_are_ready_together_share_commits() {
    let office = Office::new().await;
    let answers = join_all((0..200).map(|number| office.handle(number, "well"))).await;
    for answer in answers {
        assert_eq!(answer.unwrap().unwrap(), Handled::Done);
    }
    assert_eq!(office.booked().await, (0..200).collect());
    let commits = office.commits.load(Ordering::SeqCst);
    assert!(commits <= 50, "{commits} commits for 200 handlers");
}

#[tokio::test]
async fn a_handler_that_fails_takes_back_its_own_part_and_no_other() {
    let office = Office::new().await;
    let topics = [
        "well", "reject", "well", "panic", "hang", "well", "retry", "well",
    ];
    let all = (0..40).zip(topics.iter().cycle());
    let answers = join_all(
        all.clone()
            .map(|(number, topic)| office.handle(number, topic)),
    );
    for (answer, (number, topic)) in answers.await.into_iter().zip(all.clone()) {
        match (*topic, answer) {
            ("well", Some(Ok(Handled::Done)))
            | ("reject", Some(Err(HandlerError::Reject(_))))
            | ("retry", Some(Err(HandlerError::Retry { .. })))
            | ("panic" | "hang", None) => {}
            (topic, answer) => panic!("{number} {topic}: {answer:?}"),
        }
    }
    let well = all.filter(|(_, topic)| **topic == "well");
    assert_eq!(
        office.booked().await,
        well.map(|(number, _)| number).collect()
    );
}

#[tokio::test]
async fn nothing_is_answered_before_it_is_durable() {
    let office = Office::new().await;
    office.handle(0, "well").await.unwrap().unwrap();
    office.forbidden.store(true, Ordering::SeqCst);
    // The second of the last two finds the record of the first, which is not committed.
    let all = [(1, "well"), (2, "reject"), (3, "well"), (3, "well")];
    let answers = join_all(all.map(|(number, topic)| office.handle(number, topic))).await;
    for answer in answers {
        assert!(
            matches!(answer, Some(Err(HandlerError::Retry { .. }))),
            "{answer:?}"
        );
    }
    assert_eq!(office.booked().await, BTreeSet::from([0]));
    office.forbidden.store(false, Ordering::SeqCst);
    let again = office.handle(3, "well").await.unwrap().unwrap();
    assert_eq!(again, Handled::Done);
}

#[tokio::test]
async fn a_transaction_that_ends_under_a_handlers_hands_is_answered_as_done_by_nobody() {
    let office = Office::new().await;
    let topics = ["well", "well", "end", "well", "well"];
    let all = (0..5).zip(topics);
    let answers = join_all(all.map(|(number, topic)| office.handle(number, topic))).await;
    let booked = office.booked().await;
    for (number, answer) in (0..5).zip(&answers) {
        let done = matches!(answer, Some(Ok(Handled::Done)));
        assert_eq!(done, booked.contains(&number), "{number}: {answer:?}");
    }
    assert!(!booked.contains(&2));
    // From now on whoever ends transactions is alone with his own.
    let all = (0..5).zip(topics);
    join_all(all.map(|(number, topic)| office.handle(number, topic))).await;
    assert_eq!(office.booked().await, BTreeSet::from([0, 1, 3, 4]));
}

/// Polls `future` as often as it wakes, but no more than `polls` times.
async fn poll_only(polls: usize, future: impl Future) {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Pending if left > 0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_handler_that_is_dropped_at_any_await_harms_no_other_part() {
    let office = Office::new().await;
    for polls in 0..40_u32 {
        let numbers = [3 * polls, 3 * polls + 1, 3 * polls + 2];
        let (first, (), last) = tokio::join!(
            office.handle(numbers[0], "well"),
            poll_only(polls as usize, office.handle(numbers[1], "well")),
            office.handle(numbers[2], "well"),
        );
        for answer in [first, last] {
            assert_eq!(answer.unwrap().unwrap(), Handled::Done, "after {polls}");
        }
        // It comes again, and is handled or known by then.
        office.handle(numbers[1], "well").await.unwrap().unwrap();
        let all = 3 * polls + 3;
        assert_eq!(office.booked().await, (0..all).collect(), "after {polls}");
    }
}
