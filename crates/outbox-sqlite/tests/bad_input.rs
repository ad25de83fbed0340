//! Disks that are full, files that are read-only, locked or gone: a clear error, and nothing lost.
//!
//! Cases that need a file system of their own run in a child process with a mount namespace. Where
//! the system allows none, they are skipped loudly, and in CI they fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use outbox_core::OutboxError;
use outbox_core::message::NewMessage;
use outbox_core::ports::{Health, HealthCheck, Outbox};
use outbox_core::time::Timestamp;
use outbox_sqlite::{SqliteOptions, SqliteOutbox, SqliteStore};
use sqlx::{Connection, Executor, SqliteConnection};

fn message(bytes: usize) -> [NewMessage; 1] {
    [NewMessage::new("t", vec![b'x'; bytes])]
}

fn assert_permanent(error: &OutboxError, expected: &str) {
    let text = error.to_string();
    assert!(!error.is_transient(), "{text}");
    assert!(
        text.contains(expected) && text.contains("outbox.db"),
        "{text}"
    );
}

#[tokio::test]
async fn a_locked_database_is_told_as_transient_and_works_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    let options = SqliteOptions::new(&path).busy_timeout(Duration::from_millis(100));
    let outbox = SqliteOutbox::open_with(options.clone()).await.unwrap();
    let mut other = SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    other.execute("BEGIN IMMEDIATE").await.unwrap();
    let refused = outbox.append(&message(1)).await.unwrap_err();
    assert!(refused.is_transient(), "{refused}");
    let text = refused.to_string();
    assert!(
        text.contains("outbox.db is locked by another connection"),
        "{text}"
    );
    SqliteStore::open_with(options)
        .await
        .expect("opening needs no lock");
    other.execute("COMMIT").await.unwrap();
    outbox.append(&message(1)).await.unwrap();
    assert_eq!(outbox.stats(Timestamp::EPOCH).await.unwrap().unsent(), 1);
}

#[tokio::test]
async fn a_payload_over_the_limit_is_told_before_the_database_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    let options = SqliteOptions::new(&path).busy_timeout(Duration::from_secs(10));
    let outbox = SqliteOutbox::open_with(options).await.unwrap();
    let mut other = SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let refused = outbox.append(&message((1 << 20) + 1)).await.unwrap_err();
    assert!(!refused.is_transient());
    let OutboxError::Limit {
        what,
        actual,
        limit,
    } = refused
    else {
        panic!("{refused}");
    };
    assert_eq!((what.as_str(), actual), ("payload bytes", (1 << 20) + 1));
    assert_eq!(limit, 1 << 20);
    other.execute("COMMIT").await.unwrap();
    outbox.append(&message(1 << 20)).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_deleted_while_it_is_open_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    let outbox = SqliteOutbox::open(&path).await.unwrap();
    outbox.append(&message(1)).await.unwrap();
    assert_eq!(
        outbox.store().check(Timestamp::EPOCH).await,
        Health::Healthy
    );
    std::fs::remove_file(&path).unwrap();
    let refused = outbox.append(&message(1)).await.unwrap_err();
    assert_permanent(
        &refused,
        "the file was deleted or replaced while it was open",
    );
    assert!(matches!(
        outbox.store().check(Timestamp::EPOCH).await,
        Health::Unhealthy(_)
    ));
}

#[tokio::test]
async fn a_path_that_is_a_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    std::fs::create_dir(&path).unwrap();
    let refused = SqliteStore::open(&path).await.unwrap_err();
    assert_permanent(&refused, "cannot be opened");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let path = folder.path().join("file/below/outbox.db");
    let refused = SqliteStore::open(&path).await.unwrap_err();
    assert_permanent(&refused, "file/below/outbox.db");
}

/// Runs the ignored test `case` of this binary in a child process, after `mount` has prepared the
/// folder `$DIR` for it alone.
fn in_a_world_of_its_own(mount: &str, case: &str, folder: &Path) {
    let script = format!("{mount} || exit 77; exec \"$TEST\" --exact {case} --ignored --nocapture");
    let child = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &script])
        .env("TEST", std::env::current_exe().unwrap())
        .env("DIR", folder)
        .output();
    let refusal = match child {
        Ok(output) if output.status.success() => {
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(told.contains("1 passed"), "{told}");
            return;
        }
        Ok(output) if output.status.code() == Some(101) => {
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    assert!(
        std::env::var_os("CI").is_none(),
        "no mount namespace: {refusal}"
    );
    eprintln!("SKIPPED {case}: no mount namespace: {refusal}");
}

fn folder_of_this_world() -> PathBuf {
    std::env::var_os("DIR")
        .expect("started by another test")
        .into()
}

#[test]
fn a_full_disk_is_told_and_costs_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=2m tmpfs \"$DIR\"";
    in_a_world_of_its_own(mount, "on_a_small_disk", folder.path());
}

#[tokio::test]
#[ignore = "started by another test, on a disk of 2 MiB"]
async fn on_a_small_disk() {
    let folder = folder_of_this_world();
    let filler = folder.join("filler");
    let outbox = SqliteOutbox::open(folder.join("outbox.db")).await.unwrap();
    std::fs::write(&filler, vec![0; 900 << 10]).unwrap();
    let mut acknowledged = 0;
    let refused = loop {
        match outbox.append(&message(4_000)).await {
            Ok(report) => acknowledged += report.added() as u64,
            Err(refused) => break refused,
        }
    };
    assert_permanent(&refused, "the disk of");
    let batch: Vec<_> = (0..100).flat_map(|_| message(4_000)).collect();
    let refused = outbox.append(&batch).await.unwrap_err();
    assert_permanent(&refused, "the disk of");
    assert_eq!(
        outbox.stats(Timestamp::EPOCH).await.unwrap().unsent(),
        acknowledged
    );
    std::fs::remove_file(&filler).unwrap();
    outbox
        .append(&message(4_000))
        .await
        .expect("there is room again");
    assert_eq!(
        outbox.stats(Timestamp::EPOCH).await.unwrap().unsent(),
        acknowledged + 1
    );
}

#[test]
fn what_is_read_only_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let unsent = |added: &[NewMessage]| {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let path = folder.path().join("outbox.db");
            let outbox = SqliteOutbox::open(path).await.unwrap();
            outbox.append(added).await.unwrap();
            outbox.stats(Timestamp::EPOCH).await.unwrap().unsent()
        })
    };
    assert_eq!(unsent(&message(1)), 1);
    for place in ["$DIR", "$DIR/outbox.db"] {
        let mount =
            format!("mount --bind \"{place}\" \"{place}\" && mount -o remount,ro,bind \"{place}\"");
        in_a_world_of_its_own(&mount, "where_nothing_may_be_written", folder.path());
        assert_eq!(unsent(&[]), 1, "{place}: nothing is lost");
    }
}

#[tokio::test]
#[ignore = "started by another test, on a read-only disk or file"]
async fn where_nothing_may_be_written() {
    let path = folder_of_this_world().join("outbox.db");
    let refused = match SqliteOutbox::open(&path).await {
        Err(refused) => refused,
        Ok(outbox) => outbox.append(&message(1)).await.unwrap_err(),
    };
    assert_permanent(&refused, "");
    let text = refused.to_string();
    assert!(
        text.contains("read-only") || text.contains("cannot be opened"),
        "{text}"
    );
}
