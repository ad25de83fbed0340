use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::port::Inner;
use super::run::limit;
use crate::connect::Role;
use crate::error::Fault;
use crate::purge::CHUNK;

/// How often a queue looks whether its oldest ids are old enough, at most.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The next ids in the order in which they were enqueued: the last of them, and the youngest.
pub(super) const LOOK: &str = "\
    SELECT count(*), max(place), max(enqueued_at) FROM ( \
        SELECT place, enqueued_at FROM outbox_enqueued \
        WHERE place > ?1 AND place <= ?2 ORDER BY place LIMIT +?3)";

/// Forgets what is old and settled.
pub(super) const FORGET: &str = "\
    DELETE FROM outbox_enqueued WHERE place > ?1 AND place <= ?2 AND enqueued_at <= ?3 \
    AND NOT EXISTS (SELECT 1 FROM outbox_entries AS e WHERE e.place = outbox_enqueued.place) \
    AND NOT EXISTS (SELECT 1 FROM outbox_returned AS r WHERE r.place = outbox_enqueued.place)";

/// How far this process has come in forgetting ids.
///
/// Ids whose entries are unsettled stay, so the next look begins behind them; from the start again
/// once it has reached ids that are too young.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sweep {
    /// The last place that was looked at; 0 to begin at the start.
    after: i64,
    /// When to look again.
    next: Timestamp,
}

impl Sweep {
    /// Whether it has reached ids that are too young.
    fn is_over(self) -> bool {
        self.after == 0
    }
}

impl Inner {
    pub(super) async fn purge(&self, now: Timestamp, max: usize) -> Result<u64, Fault> {
        let (mut forgotten, mut left) = (0, max);
        while left > 0 {
            let chunk = CHUNK.min(left);
            let mut writer = self.store.background_writer(Role::Bulk).await?;
            writer.begin().await?;
            let (some, sweep) = self.sweep(writer.connection(), now, chunk).await?;
            writer.commit().await?;
            writer.finish();
            *self.progress() = sweep;
            forgotten += some;
            left -= chunk;
            if sweep.is_over() {
                break;
            }
        }
        Ok(forgotten)
    }

    /// Forgets some ids in the transaction that has added `added`, where it is time to: twice as
    /// many as were added, so that the sweep gains on any stream.
    pub(super) async fn sweep_along(
        &self,
        connection: &mut SqliteConnection,
        now: Timestamp,
        added: usize,
    ) -> Result<(), Fault> {
        if !self.sweeps(now) {
            return Ok(());
        }
        let (_, sweep) = self.sweep(connection, now, 2 * added.max(50)).await?;
        *self.progress() = sweep;
        Ok(())
    }

    /// Whether it is time to look for ids that are old enough.
    pub(super) fn sweeps(&self, now: Timestamp) -> bool {
        now >= self.progress().next
    }

    async fn sweep(
        &self,
        connection: &mut SqliteConnection,
        now: Timestamp,
        max: usize,
    ) -> Result<(u64, Sweep), Fault> {
        let after = self.progress().after.max(self.span.base());
        let before = (now - self.config.dedup_window).as_micros();
        let row = sqlx::query(LOOK)
            .bind(after)
            .bind(self.span.last())
            .bind(limit(max))
            .fetch_one(&mut *connection)
            .await?;
        let (seen, last): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        let youngest: Option<i64> = row.try_get(2)?;
        let forgotten = sqlx::query(FORGET)
            .bind(after)
            .bind(last)
            .bind(before)
            .execute(connection)
            .await?
            .rows_affected();
        let more = seen == limit(max) && youngest.is_some_and(|youngest| youngest <= before);
        let sweep = match last.filter(|_| more) {
            Some(after) => Sweep { after, next: now },
            None => Sweep {
                after: 0,
                next: now + SWEEP_EVERY.min(self.config.dedup_window),
            },
        };
        Ok((forgotten, sweep))
    }

    fn progress(&self) -> MutexGuard<'_, Sweep> {
        self.sweep.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
