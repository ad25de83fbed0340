//! Counting, purging, and what an operator asks for.

use outbox_core::report::OutboxStats;
use outbox_core::time::Timestamp;
use sqlx::Row;

use crate::error::Fault;
use crate::purge::in_chunks;
use crate::store::SqliteStore;
use outbox_core::packed::body;

pub(super) const COUNTS: &str = "SELECT \
    (SELECT count(*) FROM outbox_messages WHERE state = 0), \
    (SELECT count(*) FROM outbox_messages WHERE state IN (1, 4) AND due_at <= $1), \
    (SELECT count(*) FROM outbox_messages WHERE state IN (1, 4) AND due_at > $1), \
    (SELECT count(*) FROM outbox_messages \
        WHERE state IN (1, 2) AND ordering_key IS NOT NULL AND state = 2), \
    (SELECT count(*) FROM outbox_messages WHERE state = 3), \
    (SELECT count(*) FROM outbox_quarantine WHERE origin = 'outbox')";

/// The first row of each state; in commit order, so among them is the oldest unpublished one.
pub(super) const OLDEST: &str = "SELECT body FROM outbox_messages WHERE seq IN ( \
    (SELECT min(seq) FROM outbox_messages WHERE state = 0), \
    (SELECT min(seq) FROM outbox_messages WHERE state IN (1, 4)), \
    (SELECT min(seq) FROM outbox_messages \
        WHERE state IN (1, 2) AND ordering_key IS NOT NULL AND state = 2))";

/// Counts what the outbox holds at `now`.
pub(super) async fn stats(store: &SqliteStore, now: Timestamp) -> Result<OutboxStats, Fault> {
    let mut reader = store.reader().await?;
    let counts = sqlx::query(COUNTS)
        .bind(now.as_micros())
        .fetch_one(reader.connection())
        .await?;
    let oldest: Vec<Vec<u8>> = sqlx::query_scalar(OLDEST)
        .fetch_all(reader.connection())
        .await?;
    reader.finish();
    let count = |column: usize| -> Result<u64, Fault> {
        let count: i64 = counts.try_get(column)?;
        Ok(u64::try_from(count).unwrap_or(0))
    };
    let created_at = |body: Vec<u8>| Some(body::read(&body.into()).ok()?.created_at);
    Ok(OutboxStats {
        ready: count(0)? + count(1)?,
        waiting: count(2)?,
        parked: count(3)?,
        published: count(4)?,
        quarantined: count(5)?,
        oldest: oldest.into_iter().filter_map(created_at).min(),
    })
}

pub(super) const PURGE_MESSAGES: &str = "DELETE FROM outbox_messages WHERE seq IN ( \
    SELECT seq FROM outbox_messages WHERE state = 3 AND settled_at < $1 \
    ORDER BY settled_at LIMIT +$2)";

pub(super) const PURGE_KEYS: &str = "DELETE FROM outbox_idempotency WHERE idempotency_key IN ( \
    SELECT idempotency_key FROM outbox_idempotency WHERE created_at < $1 \
    ORDER BY created_at LIMIT +$2)";

pub(super) const OLD: &str = "SELECT \
    EXISTS (SELECT 1 FROM outbox_messages WHERE state = 3 AND settled_at < $1) \
    OR EXISTS (SELECT 1 FROM outbox_idempotency WHERE created_at < $1)";

/// Deletes up to `max` published messages, and as many idempotency keys, that are older than
/// `before`; answers how many messages.
pub(super) async fn purge(
    store: &SqliteStore,
    before: Timestamp,
    max: usize,
) -> Result<u64, Fault> {
    let mut reader = store.reader().await?;
    let any: bool = sqlx::query_scalar(OLD)
        .bind(before.as_micros())
        .fetch_one(reader.connection())
        .await?;
    reader.finish();
    if !any {
        return Ok(0);
    }
    let messages = in_chunks(store, PURGE_MESSAGES, before, max).await?;
    in_chunks(store, PURGE_KEYS, before, max).await?;
    Ok(messages)
}

/// Resumes a parked key; whether it was parked.
pub(super) async fn resume_key(store: &SqliteStore, key: &str) -> Result<bool, Fault> {
    let mut writer = store.writer().await?;
    writer.begin().await?;
    let parked = sqlx::query("DELETE FROM outbox_parked_keys WHERE ordering_key = $1")
        .bind(key)
        .execute(writer.connection())
        .await?
        .rows_affected()
        > 0;
    if parked {
        super::aside::unpark_later(writer.connection(), key).await?;
    }
    writer.commit().await?;
    writer.finish();
    if parked {
        store.announce();
    }
    Ok(parked)
}
