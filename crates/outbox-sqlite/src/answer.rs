//! Waits for a text of statements, and not a moment longer.

use futures_util::TryStreamExt;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Either, Executor};

use crate::error::Fault;

/// Executes a text of so many `statements`, none of which has rows that matter, and answers once the
/// last of them is done: where it is a commit, or commits by itself, once that is durable.
///
/// The driver's own way is to wait until its thread has tidied up as well, which wakes the caller
/// once more for nothing.
pub(crate) async fn execute(
    connection: &mut SqliteConnection,
    query: Query<'_, Sqlite, SqliteArguments>,
    statements: usize,
) -> Result<(), Fault> {
    rows(connection, query, statements).await.map(drop)
}

/// As [`execute`]; answers all rows.
pub(crate) async fn rows(
    connection: &mut SqliteConnection,
    query: Query<'_, Sqlite, SqliteArguments>,
    statements: usize,
) -> Result<Vec<SqliteRow>, Fault> {
    let mut answers = Executor::fetch_many(connection, query);
    let (mut rows, mut done) = (Vec::new(), 0);
    while done < statements {
        match answers.try_next().await? {
            Some(Either::Left(_)) => done += 1,
            Some(Either::Right(row)) => rows.push(row),
            None => break,
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlx::Connection;

    #[tokio::test]
    async fn the_last_statement_is_done_when_the_answer_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answer.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(sqlx::sqlite::SqliteJournalMode::Wal);
        let mut writer = SqliteConnection::connect_with(&options).await.unwrap();
        let mut reader = SqliteConnection::connect_with(&options).await.unwrap();
        let table = sqlx::query("CREATE TABLE t (a INTEGER UNIQUE)");
        execute(&mut writer, table, 1).await.unwrap();
        for round in 1..=50_i64 {
            let text = "BEGIN; INSERT INTO t VALUES ($1); SELECT 1 UNION SELECT 2; COMMIT";
            execute(&mut writer, sqlx::query(text).bind(round), 4)
                .await
                .unwrap();
            let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM t")
                .fetch_one(&mut reader)
                .await
                .unwrap();
            assert_eq!(seen, round);
        }
    }

    #[tokio::test]
    async fn an_error_of_any_statement_is_told() {
        let mut connection = SqliteConnection::connect(":memory:").await.unwrap();
        let table = sqlx::query("CREATE TABLE t (a INTEGER UNIQUE); INSERT INTO t VALUES (1)");
        execute(&mut connection, table, 2).await.unwrap();
        for text in [
            "INSERT INTO t VALUES (1); SELECT 1",
            "SELECT 1; INSERT INTO t VALUES (1)",
        ] {
            assert!(
                execute(&mut connection, sqlx::query(text), 2)
                    .await
                    .is_err()
            );
        }
    }
}
