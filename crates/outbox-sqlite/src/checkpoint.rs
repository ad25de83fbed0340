//! Moves committed pages from the `-wal` file into the database, beside the writers.
//!
//! SQLite has that done by whose commit makes the `-wal` file long, and all who wait for that commit
//! wait for it. Here a thread does it whose work nobody waits for. The writers still do it themselves
//! from [`WRITERS_PAGES`] on, which starts the file from its beginning again: they then find most of it
//! done.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use tokio::runtime::Runtime;

use crate::connect::{Role, connect};
use crate::error::Fault;
use crate::options::SqliteOptions;

/// How many pages the `-wal` file has when a commit checkpoints it.
pub(crate) const WRITERS_PAGES: u32 = 4_000;
/// How many committed pages wait at least when the thread checkpoints: as many as SQLite would wait
/// for, so that no more bytes are written.
const PAGES: i64 = 1_000;
/// How long after a writer's turn began the thread looks: what comes meanwhile is looked at together.
const REST: Duration = Duration::from_millis(10);

/// The thread that checkpoints; it ends with this.
#[derive(Debug)]
pub(crate) struct Checkpointer(SyncSender<()>);

impl Checkpointer {
    /// Starts the thread, on a file that exists. Where it cannot work, the writers do without it.
    pub(crate) fn start(options: &SqliteOptions) -> Self {
        let (bell, rings) = sync_channel(1);
        let options = options.clone();
        let started = std::thread::Builder::new()
            .name("outbox-sqlite-checkpoint".to_owned())
            .spawn(move || run(&options, &rings));
        if let Err(error) = started {
            warn(&error);
        }
        Self(bell)
    }

    /// Says that somebody writes.
    pub(crate) fn ring(&self) {
        // Full: it will look anyway; disconnected: it does not work.
        self.0.try_send(()).ok();
    }
}

fn run(options: &SqliteOptions, rings: &Receiver<()>) {
    let ended = match tokio::runtime::Builder::new_current_thread().build() {
        Ok(runtime) => watch(&runtime, options, rings),
        Err(error) => Err(error.into()),
    };
    if let Err(fault) = ended {
        warn(&fault);
    }
}

fn warn(error: &dyn std::error::Error) {
    tracing::warn!(%error, "commits checkpoint by themselves");
}

fn watch(runtime: &Runtime, options: &SqliteOptions, rings: &Receiver<()>) -> Result<(), Fault> {
    let mut connection = None;
    while rings.recv().is_ok() {
        std::thread::park_timeout(REST);
        if is_over(rings) {
            break;
        }
        let connection = match &mut connection {
            Some(connection) => connection,
            none => none.insert(runtime.block_on(connect(options, Role::Durable))?),
        };
        runtime.block_on(checkpoint(connection))?;
    }
    Ok(())
}

/// Whether nobody will ring any more, what was rung by now aside.
fn is_over(rings: &Receiver<()>) -> bool {
    loop {
        match rings.try_recv() {
            Ok(()) => {}
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Disconnected) => return true,
        }
    }
}

/// Checkpoints what is committed and needed by no reader, where that is worth it; waits for nobody.
async fn checkpoint(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let row = sqlx::query("PRAGMA wal_checkpoint(NOOP)")
        .fetch_one(&mut *connection)
        .await?;
    let (pages, done): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    if pages - done >= PAGES {
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
            .execute(connection)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use outbox_core::message::NewMessage;
    use outbox_core::ports::Outbox;
    use tokio::time::Instant;

    use super::*;
    use crate::{SqliteOutbox, SqliteStore};

    #[tokio::test]
    async fn what_no_commit_checkpoints_is_checkpointed_beside_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox.db");
        let store = SqliteStore::open(&path).await.unwrap();
        let outbox = SqliteOutbox::on(&store);
        let mut observer = connect(&SqliteOptions::new(&path), Role::Reader)
            .await
            .unwrap();
        let messages = vec![NewMessage::new("t", vec![0; 8_000]); 50];
        let mut written = 0;
        while written < PAGES + 500 {
            outbox.append(&messages).await.unwrap();
            written = standing(&mut observer).await.0;
        }
        assert!(written < i64::from(WRITERS_PAGES), "a commit would do it");
        let started = Instant::now();
        loop {
            let (pages, done) = standing(&mut observer).await;
            if pages - done < PAGES {
                break;
            }
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "{done} of {pages}"
            );
            tokio::time::sleep(REST).await;
        }
    }

    #[tokio::test]
    async fn a_store_that_is_gone_makes_no_file_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox.db");
        let store = SqliteStore::open(&path).await.unwrap();
        let outbox = SqliteOutbox::on(&store);
        outbox.append(&[NewMessage::new("t", "x")]).await.unwrap();
        drop((store, outbox));
        std::fs::remove_file(&path).unwrap();
        tokio::time::sleep(5 * REST).await;
        assert!(!path.exists());
    }

    /// The pages in the `-wal` file, and how many of them are checkpointed.
    async fn standing(connection: &mut SqliteConnection) -> (i64, i64) {
        let row = sqlx::query("PRAGMA wal_checkpoint(NOOP)")
            .fetch_one(connection)
            .await
            .unwrap();
        (row.get(1), row.get(2))
    }
}
