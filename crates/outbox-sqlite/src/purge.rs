//! Purging in small transactions, so that nobody waits long behind one.

use outbox_core::time::Timestamp;

use crate::error::Fault;
use crate::store::SqliteStore;

/// The most rows that one transaction purges: well under the 10 ms that an append may have to wait.
pub(crate) const CHUNK: usize = 200;

/// Deletes up to `max` rows by `sql`, which takes a moment and a number of rows, and gives others their
/// turn in between; answers how many went.
pub(crate) async fn in_chunks(
    store: &SqliteStore,
    sql: &'static str,
    before: Timestamp,
    max: usize,
) -> Result<u64, Fault> {
    in_chunks_of(store, sql, (before, None), max).await
}

/// As [`in_chunks`], by an `sql` that takes the number of a scope as well.
pub(crate) async fn in_chunks_of(
    store: &SqliteStore,
    sql: &'static str,
    (before, scope): (Timestamp, Option<i64>),
    max: usize,
) -> Result<u64, Fault> {
    let mut purged = 0;
    while purged < max {
        let chunk = CHUNK.min(max - purged);
        let mut writer = store.writer().await?;
        let deleted = sqlx::query(sql)
            .bind(before.as_micros())
            .bind(chunk as i64)
            .bind(scope)
            .execute(writer.connection())
            .await?
            .rows_affected();
        writer.finish();
        purged += usize::try_from(deleted).unwrap_or(chunk);
        if deleted < chunk as u64 {
            break;
        }
    }
    Ok(purged as u64)
}
