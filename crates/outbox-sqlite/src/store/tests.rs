//! The store, at work and cut short.

use std::time::Duration;

use futures_util::FutureExt;
use outbox_core::message::NewMessage;
use outbox_core::ports::{TransactionalOutbox, UnitOfWork};
use tokio::time::{Instant, sleep};

use super::*;

async fn store() -> (SqliteStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("outbox.db"))
        .await
        .unwrap();
    (store, folder)
}

async fn park(writer: &mut Writer, key: &str) {
    sqlx::query("INSERT INTO outbox_parked_keys VALUES ($1)")
        .bind(key)
        .execute(writer.connection())
        .await
        .unwrap();
}

async fn parked(store: &SqliteStore) -> Vec<String> {
    let mut reader = store.reader().await.unwrap();
    let keys = sqlx::query_scalar("SELECT ordering_key FROM outbox_parked_keys")
        .fetch_all(reader.connection())
        .await
        .unwrap();
    reader.finish();
    keys
}

#[tokio::test]
async fn a_writer_that_is_dropped_in_the_middle_is_rolled_back_and_replaced() {
    let (store, _folder) = store().await;
    for _ in 0..20 {
        let mut dropped = store.writer().await.unwrap();
        dropped.begin().await.unwrap();
        park(&mut dropped, "undone").await;
        drop(dropped);
        let mut next = store.swift_writer().await.unwrap();
        park(&mut next, "done").await;
        sqlx::query("DELETE FROM outbox_parked_keys WHERE ordering_key = 'done'")
            .execute(next.connection())
            .await
            .unwrap();
        next.finish();
        assert_eq!(parked(&store).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_durable_writer_waits_for_the_disk_whoever_had_its_connection_before() {
    let (store, _folder) = store().await;
    // More than once each way: SQLite does this when it prepares a statement, and not when it runs it.
    let turns = [
        (Role::Durable, 2),
        (Role::Bulk, 1),
        (Role::Bulk, 1),
        (Role::Durable, 2),
        (Role::Swift, 1),
        (Role::Durable, 2),
        (Role::Bulk, 1),
        (Role::Durable, 2),
        (Role::Bulk, 1),
    ];
    for (role, level) in turns {
        let mut writer = store.take_turn(role).await.unwrap();
        let found: i64 = sqlx::query_scalar("PRAGMA synchronous")
            .persistent(false)
            .fetch_one(writer.connection())
            .await
            .unwrap();
        assert_eq!(found, level, "{role:?}");
        // What a turn leaves in the connection's memory of statements changes nothing later.
        writer.begin().await.unwrap();
        writer.commit().await.unwrap();
        writer.finish();
    }
}

#[tokio::test]
async fn a_durable_writer_reaches_the_drive_also_where_others_made_its_connection() {
    let (store, _folder) = store().await;
    drop(store.writer().await.unwrap());
    store.bulk_writer().await.unwrap().finish();
    let mut writer = store.writer().await.unwrap();
    for setting in ["fullfsync", "checkpoint_fullfsync"] {
        let query = sqlx::AssertSqlSafe(format!("PRAGMA {setting}"));
        let found: i64 = sqlx::query_scalar(query)
            .fetch_one(writer.connection())
            .await
            .unwrap();
        assert_eq!(found, 1, "{setting}");
    }
    writer.finish();
}

#[tokio::test]
async fn a_statement_whose_caller_is_gone_happened_or_did_not() {
    let (store, _folder) = store().await;
    for polls in 0..6 {
        let text = "BEGIN IMMEDIATE; \
            INSERT INTO outbox_parked_keys VALUES ('a'); \
            INSERT INTO outbox_parked_keys VALUES ('b'); COMMIT";
        let mut writer = store.writer().await.unwrap();
        let statement = sqlx::raw_sql(text).execute(writer.connection());
        outbox_core::testing::cut(statement, polls).await;
        drop(writer);
        let mut next = store.writer().await.unwrap();
        let both = parked(&store).await.len();
        assert!(both == 0 || both == 2, "{both}");
        sqlx::query("DELETE FROM outbox_parked_keys")
            .execute(next.connection())
            .await
            .unwrap();
        next.finish();
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_behind_others_is_served_and_who_waits_for_nothing_is_told() {
    let (store, _folder) = store().await;
    let patience = store.options().busy_timeout;
    let mut turn = store.turn().await.unwrap();
    for _ in 0..5 {
        let next = tokio::spawn({
            let store = store.clone();
            async move { store.turn().await }
        });
        let behind = tokio::spawn({
            let store = store.clone();
            async move {
                tokio::task::yield_now().await;
                store.turn().await.map(drop)
            }
        });
        tokio::time::sleep(patience * 2 / 3).await;
        drop(turn);
        turn = next.await.unwrap().unwrap();
        tokio::time::sleep(patience * 2 / 3).await;
        assert!(!behind.is_finished(), "the line moved meanwhile");
        drop(turn);
        behind.await.unwrap().unwrap();
        turn = store.turn().await.unwrap();
    }
    assert!(matches!(store.turn().await, Err(Fault::Occupied)));
}

#[tokio::test(start_paused = true)]
async fn background_work_rests_for_as_long_as_others_write() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::new(folder.path().join("outbox.db")).background_share(5);
    let store = SqliteStore::open_with(options).await.unwrap();
    let write = async |store: &SqliteStore| store.writer().await.unwrap().finish();
    for (writes, rest) in [(0, 0), (1, 90), (5, 190)] {
        for _ in 0..writes.min(1) {
            write(&store).await;
        }
        let work = store.background_writer(Role::Durable).await.unwrap();
        sleep(Duration::from_millis(10)).await;
        work.finish();
        let started = Instant::now();
        let next = tokio::spawn({
            let store = store.clone();
            async move {
                store
                    .background_writer(Role::Durable)
                    .await
                    .map(Writer::finish)
            }
        });
        for _ in 1..writes {
            sleep(Duration::from_millis(50)).await;
            write(&store).await;
        }
        next.await.unwrap().unwrap();
        // 5 % of the time are 10 ms of 200 ms.
        let rested = started.elapsed();
        assert!(
            rested >= Duration::from_millis(rest),
            "{rested:?}: {writes} writes"
        );
        assert!(
            rested <= Duration::from_millis(rest + 11),
            "{rested:?}: {writes} writes"
        );
        sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn writers_take_turns_and_readers_do_not_wait_for_them() {
    let (store, _folder) = store().await;
    let first = store.writer().await.unwrap();
    assert!(store.idle_writer().await.unwrap().is_none());
    assert!(parked(&store).await.is_empty());
    let second = tokio::spawn({
        let store = store.clone();
        async move { store.writer().await.map(Writer::finish) }
    });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    first.finish();
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_commit_wakes_listeners_only_where_something_was_appended() {
    let (store, _folder) = store().await;
    let outbox = crate::SqliteOutbox::on(&store);
    // Not through the store's own call, which has the commits of others watched for as well.
    let mut wakes = store.0.wake.listen();
    for appends in [false, true, false] {
        let mut open = store.begin().await.unwrap();
        let connection = store.connection(&mut open);
        if appends {
            let message = NewMessage::new("t", "x");
            outbox.append_in(connection, &[message]).await.unwrap();
        }
        store.commit(open).await.unwrap();
        assert_eq!(wakes.notified().now_or_never().is_some(), appends);
    }
}

#[cfg(feature = "dlq")]
mod dead_letters {
    use outbox_core::id::MessageId;
    use outbox_core::ports::Outbox;
    use outbox_core::time::Timestamp;
    use outbox_dlq::{CountRequest, DlqEntry, Filter, Move, Origin, Quarantine, Subject};

    use super::*;

    const NOW: Timestamp = Timestamp::EPOCH;

    fn entry(id: MessageId) -> DlqEntry {
        let origin = Origin::Outbox;
        DlqEntry {
            subject: Subject { origin, id },
            failures: 5,
            first_failed_at: NOW,
            last_failed_at: NOW,
            kind: "failed".to_owned(),
            error: "no".to_owned(),
            claim: 1,
        }
    }

    async fn failing(store: &SqliteStore, count: usize) -> Vec<DlqEntry> {
        let outbox = crate::SqliteOutbox::on(store);
        let messages = vec![NewMessage::new("t", "x"); count];
        let added = outbox.append(&messages).await.unwrap().messages;
        added.iter().map(|message| entry(message.id)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn one_transaction_moves_more_of_them_while_nobody_else_writes() {
        let (store, _folder) = store().await;
        let quarantine = crate::SqliteQuarantine::on(&store);
        for (beside, transactions) in [(true, 3), (false, 1)] {
            let entries = failing(&store, 500).await;
            sleep(Duration::from_secs(1)).await;
            if beside {
                store.0.background.others_write();
            }
            let before = store.0.turns.load(Ordering::Relaxed);
            let moves = quarantine.quarantine(&entries, NOW).await.unwrap();
            assert_eq!(moves, vec![Move::Moved; 500]);
            let turns = store.0.turns.load(Ordering::Relaxed) - before;
            assert_eq!(turns, transactions, "others write: {beside}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn their_fingerprints_are_written_down_at_the_pace_of_the_background() {
        let (store, _folder) = store().await;
        let quarantine = crate::SqliteQuarantine::on(&store);
        let entries = failing(&store, 1).await;
        quarantine.quarantine(&entries, NOW).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        store.writer().await.unwrap().finish();
        let work = store.background_writer(Role::Swift).await.unwrap();
        sleep(Duration::from_millis(10)).await;
        work.finish();
        let started = Instant::now();
        let filter = Filter::default();
        let request = CountRequest { filter, max: 1 };
        quarantine.count(&request).await.unwrap();
        let rested = started.elapsed();
        assert!(rested >= Duration::from_millis(90), "{rested:?}");
    }
}
