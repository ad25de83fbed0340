//! What SQLite means to do for a statement, so that a test can hold it to a cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::{Connection, Row, SqliteConnection};

/// Fails where one of `statements` goes through the whole of a table of ours: its cost would grow
/// with what lies there.
pub(crate) async fn assert_no_scans(statements: &[&str]) {
    for sql in statements.iter().flat_map(|text| text.split("; ")) {
        if matches!(sql, "BEGIN IMMEDIATE" | "COMMIT") {
            continue;
        }
        let steps = steps(sql).await;
        let scan = steps.iter().find(|step| is_scan(step));
        assert!(scan.is_none(), "{sql}\n{steps:#?}");
    }
}

/// The steps of `sql` on an empty file of ours.
pub(crate) async fn steps(sql: &str) -> Vec<String> {
    let mut connection = SqliteConnection::connect(":memory:").await.unwrap();
    let schema = sqlx::AssertSqlSafe(crate::schema_sql());
    sqlx::raw_sql(schema)
        .execute(&mut connection)
        .await
        .unwrap();
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"));
    let steps = sqlx::query(explain).fetch_all(&mut connection).await;
    steps.unwrap().iter().map(|step| step.get(3)).collect()
}

/// How many steps SQLite takes while `work` is done on `connection`.
pub(crate) async fn steps_taken(
    connection: &mut SqliteConnection,
    work: impl AsyncFnOnce(&mut SqliteConnection),
) -> usize {
    let steps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&steps);
    let count = move || counted.fetch_add(1, Ordering::Relaxed) < usize::MAX;
    let mut handle = connection.lock_handle().await.unwrap();
    handle.set_progress_handler(1, count);
    drop(handle);
    work(connection).await;
    steps.load(Ordering::Relaxed)
}

/// Whether a step goes through the whole of a table. A subquery, a list that is bound, and the topics
/// that messages wait in are no longer than what was asked for.
fn is_scan(step: &str) -> bool {
    let bounded = ["VIRTUAL TABLE", "subquery", "CONSTANT ROW", "SCAN topics"];
    step.starts_with("SCAN") && !bounded.iter().any(|kind| step.contains(kind))
}

#[tokio::test]
#[should_panic(expected = "SCAN outbox_entries")]
async fn a_scan_is_found() {
    assert_no_scans(&["SELECT place FROM outbox_entries WHERE enqueued_at < 5"]).await;
}
