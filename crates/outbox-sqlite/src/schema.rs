//! The tables: made under one write transaction, by however many processes that start at once.

use outbox_core::error::OutboxError;
use sqlx::sqlite::SqliteConnection;

use crate::error::Fault;

/// One step from an empty database to the present schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its number, from 1, without gaps.
    pub version: i64,
    /// Its name, for people.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "outbox",
        sql: include_str!("../migrations/0001_outbox.sql"),
    },
    Migration {
        version: 2,
        name: "queue",
        sql: include_str!("../migrations/0002_queue.sql"),
    },
    Migration {
        version: 3,
        name: "takeovers",
        sql: include_str!("../migrations/0003_takeovers.sql"),
    },
    Migration {
        version: 4,
        name: "dead letters",
        sql: include_str!("../migrations/0004_dead_letters.sql"),
    },
    Migration {
        version: 5,
        name: "aside",
        sql: include_str!("../migrations/0005_aside.sql"),
    },
    Migration {
        version: 6,
        name: "room",
        sql: include_str!("../migrations/0006_room.sql"),
    },
];

/// The record of what was done; a table of its own, so that the application's migrations and ours
/// never meet.
const RECORD: &str = "CREATE TABLE IF NOT EXISTS _outbox_migrations (\
    version INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;";

/// Every step of the schema, in order.
#[must_use]
pub fn migrations() -> &'static [Migration] {
    MIGRATIONS
}

/// The whole schema as one text, for those who run their migrations by other means: run it in one
/// transaction on a database that has none of it, and open the store with
/// [`crate::SqliteOptions::migrate`] set to `false`.
///
/// ```
/// let sql = outbox_sqlite::schema_sql();
/// assert!(sql.contains("CREATE TABLE outbox_messages"));
/// ```
#[doc(alias = "004_create_outbox_tables.sql")]
#[doc(alias = "create_outbox_table.py.template")]
#[must_use]
pub fn schema_sql() -> String {
    let mut sql = format!("{RECORD}\n");
    for migration in MIGRATIONS {
        sql += &script(migration);
    }
    sql
}

fn script(migration: &Migration) -> String {
    let Migration { version, name, sql } = migration;
    format!("{sql}\nINSERT INTO _outbox_migrations (version, name) VALUES ({version}, '{name}');\n")
}

/// Brings the database to the present schema, or refuses it.
pub(crate) async fn prepare(connection: &mut SqliteConnection, migrate: bool) -> Result<(), Fault> {
    let supported = MIGRATIONS.len() as i64;
    // Looking first spares a start that has nothing to do the wait for the write lock.
    if present(connection).await? == supported {
        return Ok(());
    }
    if migrate {
        bring_up(connection).await?;
    }
    let found = present(connection).await?;
    if found == supported {
        return Ok(());
    }
    Err(Fault::Told(OutboxError::Schema {
        found: found.to_string(),
        supported: supported.to_string(),
    }))
}

/// The version of the schema that the database has; 0 where it has none.
async fn present(connection: &mut SqliteConnection) -> Result<i64, Fault> {
    let known: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '_outbox_migrations')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !known {
        return Ok(0);
    }
    let version = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM _outbox_migrations")
        .fetch_one(connection)
        .await?;
    Ok(version)
}

/// Only one of several starters gets the write lock; the others find everything done.
async fn bring_up(connection: &mut SqliteConnection) -> Result<(), Fault> {
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut *connection)
        .await?;
    match catch_up(connection).await {
        Ok(()) => {
            sqlx::query("COMMIT").execute(connection).await?;
            Ok(())
        }
        Err(fault) => {
            sqlx::query("ROLLBACK").execute(connection).await?;
            Err(fault)
        }
    }
}

async fn catch_up(connection: &mut SqliteConnection) -> Result<(), Fault> {
    sqlx::raw_sql(RECORD).execute(&mut *connection).await?;
    let present = present(connection).await?;
    for migration in MIGRATIONS.iter().filter(|step| step.version > present) {
        let script = sqlx::AssertSqlSafe(script(migration));
        sqlx::raw_sql(script).execute(&mut *connection).await?;
    }
    Ok(())
}
