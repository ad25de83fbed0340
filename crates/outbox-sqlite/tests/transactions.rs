//! Appending to the caller's own transaction: there is one, or nothing is appended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use outbox_core::OutboxError;
use outbox_core::message::NewMessage;
use outbox_core::ports::{Outbox, TransactionalOutbox, UnitOfWork};
use outbox_core::time::Timestamp;
use outbox_sqlite::{SqliteOptions, SqliteOutbox, SqliteStore};
use sqlx::{Connection, Executor, SqliteConnection};
use tempfile::TempDir;

struct World {
    outbox: SqliteOutbox,
    /// A connection of the caller's own, which the store knows nothing of.
    caller: SqliteConnection,
    _folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox.db");
        let outbox = SqliteOutbox::open(&path).await.unwrap();
        let mut caller = SqliteConnection::connect(path.to_str().unwrap())
            .await
            .unwrap();
        caller
            .execute("CREATE TABLE business (id INTEGER PRIMARY KEY)")
            .await
            .unwrap();
        Self {
            outbox,
            caller,
            _folder: folder,
        }
    }

    async fn stored(&mut self) -> (u64, i64) {
        let stats = self.outbox.stats(Timestamp::EPOCH).await.unwrap();
        let business = sqlx::query_scalar("SELECT count(*) FROM business")
            .fetch_one(&mut self.caller)
            .await
            .unwrap();
        (stats.unsent(), business)
    }
}

/// Every way that an append can go: one message, one that needs a look-up, a few, and many.
fn batches() -> [Vec<NewMessage>; 4] {
    let message = || NewMessage::new("t", "x");
    let many = std::iter::repeat_with(message).take(2_500).collect();
    let keyed = vec![message().idempotency_key("key")];
    [
        vec![message()],
        keyed,
        vec![message(), message().ordering_key("k")],
        many,
    ]
}

#[tokio::test]
async fn messages_are_there_with_the_callers_rows_or_not_at_all() {
    for (batch, commits) in batches()
        .into_iter()
        .flat_map(|b| [(b.clone(), true), (b, false)])
    {
        let mut world = World::new().await;
        let mut transaction = world.caller.begin().await.unwrap();
        transaction
            .execute("INSERT INTO business VALUES (1)")
            .await
            .unwrap();
        let report = world
            .outbox
            .append_in(&mut transaction, &batch)
            .await
            .unwrap();
        assert_eq!(report.added(), batch.len());
        if commits {
            transaction.commit().await.unwrap();
            assert_eq!(world.stored().await, (batch.len() as u64, 1));
        } else {
            transaction.rollback().await.unwrap();
            assert_eq!(world.stored().await, (0, 0));
        }
    }
}

fn assert_refused(refused: &OutboxError) {
    assert!(!refused.is_transient());
    let text = refused.to_string();
    assert!(
        text.contains("the connection is not inside a transaction"),
        "{text}"
    );
}

#[tokio::test]
async fn a_connection_outside_any_transaction_is_refused() {
    for enforced in ["ON", "OFF"] {
        let mut world = World::new().await;
        let pragma = sqlx::AssertSqlSafe(format!("PRAGMA foreign_keys = {enforced}"));
        world.caller.execute(pragma).await.unwrap();
        for batch in batches() {
            let refused = world
                .outbox
                .append_in(&mut world.caller, &batch)
                .await
                .unwrap_err();
            assert_refused(&refused);
        }
        assert_eq!(world.stored().await, (0, 0));
    }
}

#[tokio::test]
async fn foreign_keys_that_are_not_enforced_do_not_matter_inside_a_transaction() {
    let mut world = World::new().await;
    world
        .caller
        .execute("PRAGMA foreign_keys = OFF")
        .await
        .unwrap();
    for batch in batches() {
        let before = world.stored().await.0;
        world.caller.execute("BEGIN").await.unwrap();
        world
            .outbox
            .append_in(&mut world.caller, &batch)
            .await
            .unwrap();
        world.caller.execute("COMMIT").await.unwrap();
        assert_eq!(world.stored().await.0, before + batch.len() as u64);
    }
}

#[tokio::test]
async fn a_transaction_that_sqlite_rolled_back_by_itself_is_refused() {
    for batch in batches() {
        let mut world = World::new().await;
        let mut transaction = world.caller.begin().await.unwrap();
        transaction
            .execute("INSERT INTO business VALUES (1)")
            .await
            .unwrap();
        let conflict = "INSERT OR ROLLBACK INTO business VALUES (1)";
        transaction.execute(conflict).await.unwrap_err();
        let refused = world
            .outbox
            .append_in(&mut transaction, &batch)
            .await
            .unwrap_err();
        assert_refused(&refused);
        drop(transaction);
        assert_eq!(world.stored().await, (0, 0));
    }
}

#[tokio::test]
async fn a_savepoint_takes_its_messages_back() {
    let mut world = World::new().await;
    let mut transaction = world.caller.begin().await.unwrap();
    let [one, _, few, _] = batches();
    world
        .outbox
        .append_in(&mut transaction, &one)
        .await
        .unwrap();
    let mut savepoint = transaction.begin().await.unwrap();
    world.outbox.append_in(&mut savepoint, &few).await.unwrap();
    savepoint.rollback().await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(world.stored().await, (1, 0));
}

#[tokio::test]
async fn a_known_message_does_not_spoil_the_transaction() {
    let mut world = World::new().await;
    let known = world
        .outbox
        .append(&[NewMessage::new("t", "x")])
        .await
        .unwrap()
        .messages[0]
        .id;
    let mut again = NewMessage::new("t", "x");
    again.id = Some(known);
    let mut transaction = world.caller.begin().await.unwrap();
    for batch in [vec![again.clone()], vec![NewMessage::new("t", "y"), again]] {
        let report = world
            .outbox
            .append_in(&mut transaction, &batch)
            .await
            .unwrap();
        assert_eq!((report.added(), report.duplicates()), (batch.len() - 1, 1));
    }
    transaction.commit().await.unwrap();
    assert_eq!(world.stored().await.0, 2);
}

#[tokio::test]
async fn a_store_goes_on_after_its_transactions_end_badly() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("outbox.db"))
        .await
        .unwrap();
    let outbox = SqliteOutbox::on(&store);
    let message = [NewMessage::new("t", "x")];

    let mut dropped = store.begin().await.unwrap();
    outbox
        .append_in(store.connection(&mut dropped), &message)
        .await
        .unwrap();
    drop(dropped);

    let mut broken = store.begin().await.unwrap();
    let connection = store.connection(&mut broken);
    connection
        .execute("CREATE TABLE business (id INTEGER PRIMARY KEY)")
        .await
        .unwrap();
    connection
        .execute("INSERT INTO business VALUES (1)")
        .await
        .unwrap();
    connection
        .execute("INSERT OR ROLLBACK INTO business VALUES (1)")
        .await
        .unwrap_err();
    store
        .commit(broken)
        .await
        .expect_err("there is nothing left to commit");

    let mut sound = store.begin().await.unwrap();
    outbox
        .append_in(store.connection(&mut sound), &message)
        .await
        .unwrap();
    store.commit(sound).await.unwrap();
    outbox.append(&message).await.unwrap();
    assert_eq!(outbox.stats(Timestamp::EPOCH).await.unwrap().unsent(), 2);
}

#[tokio::test]
async fn who_appends_beside_his_own_open_transaction_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::new(folder.path().join("outbox.db"))
        .busy_timeout(std::time::Duration::from_millis(100));
    let store = SqliteStore::open_with(options).await.unwrap();
    let outbox = SqliteOutbox::on(&store);
    let open = store.begin().await.unwrap();
    let refused = outbox
        .append(&[NewMessage::new("t", "x")])
        .await
        .unwrap_err();
    assert!(refused.is_transient(), "{refused}");
    store.rollback(open).await.unwrap();
    outbox.append(&[NewMessage::new("t", "x")]).await.unwrap();
}
