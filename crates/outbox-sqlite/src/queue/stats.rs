use outbox_core::report::QueueStats;
use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::port::Inner;
use crate::error::Fault;

/// Counts what is held or was given back; what waits is what remains of the depth, so that a
/// backlog costs nothing.
pub(super) const COUNT: &str = "\
    SELECT depth, \
    (SELECT count(*) FROM outbox_entries WHERE place > ?2 AND place <= head), \
    (SELECT count(*) FROM outbox_returned WHERE queue = ?1 AND token > 0), \
    (SELECT count(*) FROM outbox_returned WHERE queue = ?1 AND token = 0 AND due_at > ?4), \
    (SELECT count(*) FROM outbox_quarantine WHERE origin = ?5), \
    (SELECT count(*) FROM ( \
        SELECT owner FROM outbox_claims WHERE queue = ?1 \
        UNION SELECT owner FROM outbox_returned WHERE queue = ?1 AND token > 0)), \
    (SELECT min(enqueued_at) FROM ( \
        SELECT * FROM (SELECT enqueued_at FROM outbox_entries \
            WHERE place BETWEEN ?2 AND ?3 ORDER BY place LIMIT 1) \
        UNION ALL \
        SELECT * FROM (SELECT enqueued_at FROM outbox_returned \
            WHERE place BETWEEN ?2 AND ?3 ORDER BY place LIMIT 1))) \
    FROM outbox_queues WHERE queue = ?1";

impl Inner {
    pub(super) async fn stats(&self, now: Timestamp) -> Result<QueueStats, Fault> {
        let mut reader = self.store.reader().await?;
        let row = sqlx::query(COUNT)
            .bind(self.queue)
            .bind(self.span.base())
            .bind(self.span.last())
            .bind(now.as_micros())
            .bind(self.origin())
            .fetch_one(reader.connection())
            .await?;
        reader.finish();
        let in_flight = count(&row, 1)? + count(&row, 2)?;
        let delayed = count(&row, 3)?;
        let oldest: Option<i64> = row.try_get(6)?;
        Ok(QueueStats {
            ready: count(&row, 0)?.saturating_sub(in_flight + delayed),
            in_flight,
            delayed,
            quarantined: count(&row, 4)?,
            consumers: count(&row, 5)?,
            oldest: oldest.map(Timestamp::from_micros),
        })
    }
}

fn count(row: &SqliteRow, column: usize) -> Result<u64, Fault> {
    let count: i64 = row.try_get(column)?;
    Ok(u64::try_from(count).unwrap_or(0))
}
