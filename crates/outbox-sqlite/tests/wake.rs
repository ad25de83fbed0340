//! Commits are noticed, wherever they are made, and idling costs nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use outbox_core::message::NewMessage;
use outbox_core::ports::{Outbox, TransactionalOutbox, UnitOfWork};
use outbox_core::signal::WakeListener;
use outbox_sqlite::{SqliteOutbox, SqliteStore};
use sqlx::{Connection, SqliteConnection};
use tokio::time::{Instant, sleep, timeout};

fn message() -> [NewMessage; 1] {
    [NewMessage::new("t", "x")]
}

/// Lets the watcher begin, and forgets what it told until then.
async fn settle_down(listener: &mut WakeListener) {
    while timeout(Duration::from_millis(200), listener.notified())
        .await
        .is_ok()
    {}
}

/// How long a listener takes to hear of each of `rounds` commits; the median.
async fn heard<F: Future<Output = ()>>(
    listener: &mut WakeListener,
    rounds: usize,
    mut commit: impl FnMut() -> F,
) -> Duration {
    let mut delays = Vec::new();
    for _ in 0..rounds {
        sleep(Duration::from_millis(10)).await;
        listener.mark_seen();
        commit().await;
        let committed = Instant::now();
        timeout(Duration::from_secs(5), listener.notified())
            .await
            .expect("a commit is noticed");
        delays.push(committed.elapsed());
    }
    delays.sort();
    delays[delays.len() / 2]
}

#[tokio::test]
async fn a_commit_of_another_store_is_noticed_within_5_ms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    let here = SqliteOutbox::open(&path).await.unwrap();
    let there = SqliteOutbox::open(&path).await.unwrap();
    let mut listener = here.wake().listen();
    settle_down(&mut listener).await;
    let median = heard(&mut listener, 41, || async {
        there.append(&message()).await.unwrap();
    })
    .await;
    assert!(median < Duration::from_millis(5), "{median:?}");
}

#[tokio::test]
async fn a_commit_of_the_callers_own_connection_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    let outbox = SqliteOutbox::open(&path).await.unwrap();
    let mut listener = outbox.wake().listen();
    settle_down(&mut listener).await;
    let mut connection = SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    let mut transaction = connection.begin().await.unwrap();
    outbox
        .append_in(&mut transaction, &message())
        .await
        .unwrap();
    transaction.commit().await.unwrap();
    timeout(Duration::from_millis(500), listener.notified())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_commit_of_a_unit_of_work_wakes_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("outbox.db"))
        .await
        .unwrap();
    let outbox = SqliteOutbox::on(&store);
    let mut listener = outbox.wake().listen();
    settle_down(&mut listener).await;
    let mut open = store.begin().await.unwrap();
    outbox
        .append_in(store.connection(&mut open), &message())
        .await
        .unwrap();
    store.commit(open).await.unwrap();
    listener.notified().await;
}

#[tokio::test]
async fn nothing_wakes_an_idle_outbox() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = SqliteOutbox::open(folder.path().join("outbox.db"))
        .await
        .unwrap();
    let mut listener = outbox.wake().listen();
    settle_down(&mut listener).await;
    assert!(
        timeout(Duration::from_secs(1), listener.notified())
            .await
            .is_err()
    );
}
