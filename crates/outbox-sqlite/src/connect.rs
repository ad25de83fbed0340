//! Opens one connection, and makes sure that the settings which durability rests on have taken.

use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Row};
use tokio::time::{Instant, sleep};

use crate::checkpoint::WRITERS_PAGES;
use crate::error::{Fault, code_of};
use crate::options::{SqliteOptions, Synchronous};

/// The oldest SQLite whose WAL is sound with several connections.
const OLDEST: &str = "3.51.3";

/// To how many bytes the -wal file is cut back after it had to grow.
const WAL_BYTES: &str = "67108864";

/// How many pages a writing connection keeps at hand, as SQLite is told it: 4 MiB.
const WRITERS_CACHE: &str = "-4096";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Writes what must survive a loss of power.
    Durable,
    /// Writes what a loss of power may undo: leases, whose holders it kills as well.
    Swift,
    /// Writes much that a loss of power may undo, on the connection of [`Role::Durable`], which has the
    /// pages at hand that are touched before and after.
    Bulk,
    /// Reads.
    Reader,
}

/// The driver's options for a connection of `role`.
pub(crate) fn driver_options(options: &SqliteOptions, role: Role) -> SqliteConnectOptions {
    let synchronous = synchronous(options, role);
    let through = if synchronous == Synchronous::Full {
        "ON"
    } else {
        "OFF"
    };
    let driver = SqliteConnectOptions::new()
        .filename(&options.path)
        .busy_timeout(options.busy_timeout)
        .foreign_keys(true)
        .pragma("synchronous", synchronous.pragma())
        // Only macOS knows the difference between giving data to the drive and having it there.
        .pragma("fullfsync", through)
        .pragma("checkpoint_fullfsync", through)
        .pragma("journal_size_limit", WAL_BYTES)
        .thread_name(|id| format!("outbox-sqlite-{id}"))
        .disable_statement_logging();
    match role {
        Role::Reader => driver.pragma("query_only", "ON"),
        Role::Durable | Role::Swift | Role::Bulk => driver
            // What a statement would need to undo itself goes to no file.
            .pragma("temp_store", "MEMORY")
            .pragma("cache_size", WRITERS_CACHE)
            .pragma("wal_autocheckpoint", WRITERS_PAGES.to_string()),
    }
}

/// Opens a verified connection of `role` to a file that exists.
pub(crate) async fn connect(
    options: &SqliteOptions,
    role: Role,
) -> Result<SqliteConnection, Fault> {
    let mut connection = driver_options(options, role).connect().await?;
    verify(&mut connection, options, role).await?;
    Ok(connection)
}

/// Opens the first connection of a store: makes the file, its folder, and turns WAL on.
pub(crate) async fn connect_first(options: &SqliteOptions) -> Result<SqliteConnection, Fault> {
    let folder = options.path.parent();
    if let Some(folder) = folder.filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let first = driver_options(options, Role::Durable).create_if_missing(true);
    let mut connection = first.connect().await?;
    turn_wal_on(&mut connection, options.busy_timeout).await?;
    verify(&mut connection, options, Role::Durable).await?;
    Ok(connection)
}

/// How long commits of `role` wait for the disk.
pub(crate) fn synchronous(options: &SqliteOptions, role: Role) -> Synchronous {
    match role {
        Role::Durable => options.synchronous,
        Role::Swift | Role::Bulk | Role::Reader => Synchronous::Normal,
    }
}

/// Changes how long the commits of a connection wait for the disk, and verifies that it has taken.
pub(crate) async fn set_synchronous(
    connection: &mut SqliteConnection,
    synchronous: Synchronous,
) -> Result<(), Fault> {
    let level = synchronous.level();
    let change = format!("PRAGMA synchronous = {level}; PRAGMA synchronous");
    // SQLite does it when it prepares the statement, so that a prepared one would do nothing.
    let taken = sqlx::query_scalar(sqlx::AssertSqlSafe(change)).persistent(false);
    let taken: i64 = taken.fetch_one(connection).await?;
    expect("synchronous", &taken.to_string(), &level.to_string())
}

/// Changing the journal mode needs the database for itself, and SQLite does not wait for that: of
/// several processes that start together on a new file, all but one would fail.
async fn turn_wal_on(connection: &mut SqliteConnection, patience: Duration) -> Result<(), Fault> {
    let deadline = Instant::now() + patience;
    loop {
        let answer = sqlx::query("PRAGMA journal_mode = WAL")
            .execute(&mut *connection)
            .await;
        match answer {
            Ok(_) => return Ok(()),
            Err(error) if is_busy(&error) && Instant::now() < deadline => {
                sleep(Duration::from_millis(5)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    code_of(error).is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

/// The settings that everything rests on, as the connection itself tells them.
const SETTINGS: &str = "SELECT sqlite_version(), \
    (SELECT journal_mode FROM pragma_journal_mode), \
    (SELECT synchronous FROM pragma_synchronous), \
    (SELECT foreign_keys FROM pragma_foreign_keys), \
    (SELECT encoding FROM pragma_encoding)";

async fn verify(
    connection: &mut SqliteConnection,
    options: &SqliteOptions,
    role: Role,
) -> Result<(), Fault> {
    let row = sqlx::query(SETTINGS).fetch_one(connection).await?;
    let version: String = row.try_get(0)?;
    if number(&version) < number(OLDEST) {
        return Err(Fault::TooOld {
            found: version,
            needed: OLDEST,
        });
    }
    let journal_mode: String = row.try_get(1)?;
    // Bodies are packed bytes which SQL hands through as text: recoding would damage them.
    let encoding: String = row.try_get(4)?;
    let level = synchronous(options, role).level();
    expect("journal_mode", &journal_mode, "wal")?;
    expect(
        "synchronous",
        &row.try_get::<i64, _>(2)?.to_string(),
        &level.to_string(),
    )?;
    expect("foreign_keys", &row.try_get::<i64, _>(3)?.to_string(), "1")?;
    expect("encoding", &encoding, "UTF-8")
}

fn expect(setting: &'static str, found: &str, wanted: &str) -> Result<(), Fault> {
    if found == wanted {
        return Ok(());
    }
    Err(Fault::Setting {
        setting,
        found: found.to_owned(),
        wanted: wanted.to_owned(),
    })
}

/// The parts of a version such as `3.51.3`, to be compared.
fn number(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map(|part| part.parse().unwrap_or(0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_writer_waits_for_the_disk_unless_told_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outbox.db");
        for (wanted, level) in [(Synchronous::Full, 2), (Synchronous::Normal, 1)] {
            let options = SqliteOptions::new(&path).synchronous(wanted);
            let mut first = connect_first(&options).await.unwrap();
            let mut writer = connect(&options, Role::Durable).await.unwrap();
            let mut swift = connect(&options, Role::Swift).await.unwrap();
            assert_eq!(pragma(&mut first, "synchronous").await, level);
            assert_eq!(pragma(&mut writer, "synchronous").await, level);
            assert_eq!(pragma(&mut writer, "fullfsync").await, level - 1);
            assert_eq!(pragma(&mut swift, "synchronous").await, 1);
        }
    }

    #[tokio::test]
    async fn a_reader_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteOptions::new(folder.path().join("outbox.db"));
        connect_first(&options).await.unwrap();
        let mut reader = connect(&options, Role::Reader).await.unwrap();
        let refused = sqlx::query("CREATE TABLE t (a)").execute(&mut reader).await;
        assert_eq!(code_of(&refused.unwrap_err()), Some(8));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(number("3.51.3") < number("3.51.10") && number("3.9.0") < number("3.51.3"));
        assert!(number(OLDEST) <= number("4.0"));
    }

    async fn pragma(connection: &mut SqliteConnection, name: &str) -> i64 {
        let query = sqlx::AssertSqlSafe(format!("PRAGMA {name}"));
        sqlx::query_scalar(query)
            .fetch_one(connection)
            .await
            .unwrap()
    }
}
