//! The stored histories of failed attempts.

use std::collections::HashMap;

use outbox_core::status::AttemptRecord;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::read::Found;
use crate::codec::jsonb;
use crate::error::Fault;

/// The failed attempts of those of `rows` that have any.
pub(super) async fn of_rows(
    reader: &mut SqliteConnection,
    rows: &[Found],
) -> Result<HashMap<i64, Vec<AttemptRecord>>, Fault> {
    let tried = rows.iter().filter(|row| row.attempts > 0);
    let tried: Vec<i64> = tried.map(|row| row.seq).collect();
    let mut histories = HashMap::new();
    if tried.is_empty() {
        return Ok(histories);
    }
    let found = sqlx::query(
        "SELECT seq, history FROM outbox_messages \
         WHERE seq IN (SELECT value FROM json_each($1)) AND history IS NOT NULL",
    )
    .bind(jsonb::integers(tried))
    .fetch_all(reader)
    .await?;
    for row in found {
        histories.insert(row.try_get(0)?, parse(row.try_get(1)?));
    }
    Ok(histories)
}

/// The attempts in a history; one that cannot be read is told, and costs the message nothing.
pub(crate) fn parse(text: &str) -> Vec<AttemptRecord> {
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(%error, "a stored history of attempts cannot be read");
        Vec::new()
    })
}
