//! Opening a store: what is made, what is refused, and that starting together is harmless.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use outbox_core::OutboxError;
use outbox_core::message::NewMessage;
use outbox_core::ports::Outbox;
use outbox_sqlite::{SqliteOptions, SqliteOutbox, SqliteStore};
use sqlx::{Connection, SqliteConnection};

#[tokio::test]
async fn opening_makes_the_folder_the_file_and_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/outbox.db");
    SqliteStore::open(&path).await.unwrap();
    SqliteStore::open(&path).await.unwrap();
    let mut connection = SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM outbox_messages")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(count, 0);
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    SqliteStore::open(&path).await.unwrap();
    let mut connection = SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    sqlx::query("INSERT INTO _outbox_migrations (version, name) VALUES (99, 'from the future')")
        .execute(&mut connection)
        .await
        .unwrap();
    let refused = SqliteStore::open(&path).await.unwrap_err();
    let OutboxError::Schema { found, supported } = refused else {
        panic!("{refused}");
    };
    let newest = outbox_sqlite::migrations().len().to_string();
    assert_eq!((found.as_str(), supported), ("99", newest));
}

#[tokio::test]
async fn an_application_may_run_the_schema_itself() {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::new(folder.path().join("outbox.db")).migrate(false);
    let refused = SqliteStore::open_with(options.clone()).await.unwrap_err();
    assert!(matches!(refused, OutboxError::Schema { .. }), "{refused}");
    let mut connection = SqliteConnection::connect(options.path().to_str().unwrap())
        .await
        .unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(outbox_sqlite::schema_sql()))
        .execute(&mut connection)
        .await
        .unwrap();
    SqliteStore::open_with(options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn starting_together_on_a_new_file_is_harmless() {
    for _ in 0..30 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox.db");
        let starts: Vec<_> = (0..4)
            .map(|_| tokio::spawn(SqliteStore::open(path.clone())))
            .collect();
        for start in starts {
            start.await.unwrap().unwrap();
        }
    }
}

#[test]
fn processes_that_start_together_on_a_new_file_harm_nothing() {
    for _ in 0..8 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox.db");
        let start = |_| {
            std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "a_starter", "--ignored", "--nocapture"])
                .env("OUTBOX_TEST_PATH", &path)
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap()
        };
        let starts: Vec<_> = (0..4).map(start).collect();
        for start in starts {
            let ended = start.wait_with_output().unwrap();
            let told = String::from_utf8_lossy(&ended.stdout);
            assert!(
                ended.status.success() && told.contains("1 passed"),
                "{told}"
            );
        }
    }
}

#[tokio::test]
#[ignore = "started by another test"]
async fn a_starter() {
    let path = std::env::var_os("OUTBOX_TEST_PATH").expect("started by another test");
    let outbox = SqliteOutbox::open(path).await.unwrap();
    outbox.append(&[NewMessage::new("t", "x")]).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(
        &path,
        "not a database, but long enough to be looked at".repeat(100),
    )
    .unwrap();
    let refused = SqliteStore::open(&path).await.unwrap_err();
    assert!(!refused.is_transient());
    let text = refused.to_string();
    assert!(
        text.contains("notes.txt is not an SQLite database"),
        "{text}"
    );
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("utf16.db");
    let address = format!("sqlite://{}?mode=rwc", path.display());
    let mut connection = SqliteConnection::connect(&address).await.unwrap();
    sqlx::raw_sql("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (a)")
        .execute(&mut connection)
        .await
        .unwrap();
    let refused = SqliteStore::open(&path).await.unwrap_err().to_string();
    assert!(
        refused.contains("encoding is UTF-16le where UTF-8 is needed"),
        "{refused}"
    );
}
