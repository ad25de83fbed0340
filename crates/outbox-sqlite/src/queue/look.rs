use outbox_core::id::WorkerId;
use outbox_core::ports::DequeueReport;
use outbox_core::time::Timestamp;
use sqlx::Row;

use super::port::Inner;
use crate::error::Fault;

/// Each part is one step down an index, whatever the backlog.
pub(super) const LOOK: &str = "\
    SELECT tail - head, \
    (SELECT due_at FROM outbox_returned WHERE queue = ?1 AND token = 0 ORDER BY due_at LIMIT 1), \
    (SELECT min(ends_at) FROM ( \
        SELECT * FROM (SELECT expires_at AS ends_at FROM outbox_claims \
            WHERE queue = ?1 AND owner <> ?2 ORDER BY expires_at LIMIT 1) \
        UNION ALL \
        SELECT * FROM (SELECT due_at FROM outbox_returned \
            WHERE queue = ?1 AND token > 0 AND owner <> ?2 ORDER BY due_at LIMIT 1))), \
    EXISTS (SELECT 1 FROM outbox_claims WHERE queue = ?1) \
        OR EXISTS (SELECT 1 FROM outbox_returned WHERE queue = ?1 AND token > 0) \
    FROM outbox_queues WHERE queue = ?1";

/// What a worker sees that looks at a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// How many places were enqueued that were not handed out yet.
    pub(super) fresh: i64,
    /// When the next entry that was given back is due.
    pub(super) next_due: Option<Timestamp>,
    /// When the first lease of anybody else ends.
    pub(super) next_expiry: Option<Timestamp>,
    /// Whether anybody holds anything.
    pub(super) held: bool,
}

impl View {
    /// Whether there is anything to hand out at `now`.
    pub(super) fn has_work(self, now: Timestamp) -> bool {
        self.fresh > 0 || self.has_due(now)
    }

    /// What is told where nothing was handed out.
    pub(super) fn nothing(self) -> DequeueReport {
        DequeueReport {
            next_expiry: self.next_expiry,
            none_held: !self.held,
            ..DequeueReport::default()
        }
    }

    /// Whether an entry that was given back is due at `now`.
    pub(super) fn has_due(self, now: Timestamp) -> bool {
        self.next_due.is_some_and(|due| due <= now)
    }
}

impl Inner {
    /// Looks at the queue for `owner`, and changes nothing.
    pub(super) async fn look(&self, owner: WorkerId) -> Result<View, Fault> {
        let mut reader = self.store.reader().await?;
        let row = sqlx::query(LOOK)
            .bind(self.queue)
            .bind(&owner.as_bytes()[..])
            .fetch_one(reader.connection())
            .await?;
        reader.finish();
        let moment = |column: usize| {
            let micros: Option<i64> = row.try_get(column)?;
            Ok::<_, Fault>(micros.map(Timestamp::from_micros))
        };
        Ok(View {
            fresh: row.try_get(0)?,
            next_due: moment(1)?,
            next_expiry: moment(2)?,
            held: row.try_get(3)?,
        })
    }
}
