use outbox_core::ports::{DequeueReport, RecoverRequest};
use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::port::Inner;
use super::run::{HandedOut, Holder, Returned, Run, measure};
use crate::error::Fault;

/// Whether any lease has ended; two steps down an index.
pub(super) const STUCK: &str = "\
    SELECT EXISTS (SELECT 1 FROM outbox_claims WHERE queue = ?1 AND expires_at <= ?2) \
    OR EXISTS (SELECT 1 FROM outbox_returned WHERE queue = ?1 AND token > 0 AND due_at <= ?2)";

pub(super) const NEXT_TOKEN: &str = "UPDATE outbox_queues SET token = token + 1 WHERE queue = ?1";

pub(super) const TOKEN: &str = "SELECT token FROM outbox_queues WHERE queue = ?1";

/// The claim that ended first, among those that have ended.
pub(super) const ENDED: &str = "\
    SELECT token, low, high, takeovers FROM outbox_claims WHERE queue = ?1 AND expires_at <= ?2 \
    ORDER BY expires_at LIMIT 1";

pub(super) const END: &str =
    "DELETE FROM outbox_claims WHERE queue = ?1 AND token = ?2 AND low = ?3";

/// Leaves the rest of a run to its claim.
pub(super) const CUT: &str = "\
    UPDATE outbox_claims SET low = ?4 WHERE queue = ?1 AND token = ?2 AND low = ?3";

/// Ends the claims under a token of which nothing is left.
pub(super) const END_EMPTY: &str = "\
    DELETE FROM outbox_claims WHERE queue = ?1 AND token = ?2 \
    AND NOT EXISTS (SELECT 1 FROM outbox_entries WHERE place BETWEEN low AND high)";

/// A claim whose lease has ended.
struct Ended {
    token: i64,
    run: Run,
    takeovers: u32,
}

impl Inner {
    /// Takes over what is stuck, whatever lies before it: the leases that have ended are found by
    /// their ends.
    pub(super) async fn recover_stuck(
        &self,
        request: &RecoverRequest,
    ) -> Result<DequeueReport, Fault> {
        let mut report = DequeueReport::default();
        if self.is_stuck(request.now).await? {
            let mut writer = self.store.swift_writer().await?;
            writer.begin().await?;
            let handed_out = self.take_over(writer.connection(), request).await?;
            writer.commit().await?;
            writer.finish();
            if !handed_out.is_empty() {
                report = self.read_out(&handed_out, request.now).await?;
            }
        }
        report.next_expiry = self.look(request.owner).await?.next_expiry;
        Ok(report)
    }

    async fn is_stuck(&self, now: Timestamp) -> Result<bool, Fault> {
        let mut reader = self.store.reader().await?;
        let stuck = sqlx::query_scalar(STUCK)
            .bind(self.queue)
            .bind(now.as_micros())
            .fetch_one(reader.connection())
            .await?;
        reader.finish();
        Ok(stuck)
    }

    async fn take_over(
        &self,
        connection: &mut SqliteConnection,
        request: &RecoverRequest,
    ) -> Result<HandedOut, Fault> {
        let next = sqlx::query(NEXT_TOKEN).bind(self.queue);
        next.execute(&mut *connection).await?;
        let token = sqlx::query_scalar(TOKEN)
            .bind(self.queue)
            .fetch_one(&mut *connection)
            .await?;
        let holder = Holder {
            owner: request.owner,
            until: request.now + request.lease,
            token,
        };
        let stuck = (holder, request.now);
        let returned = self
            .take_returned(connection, Returned::Stuck, stuck, request.max)
            .await?;
        let room = request.max.saturating_sub(returned);
        let runs = self.take_over_runs(connection, stuck, room).await?;
        Ok(HandedOut {
            holder,
            runs,
            returned,
        })
    }

    /// Takes over up to `room` entries of the claims that have ended, those that ended first.
    async fn take_over_runs(
        &self,
        connection: &mut SqliteConnection,
        (holder, now): (Holder, Timestamp),
        room: usize,
    ) -> Result<Vec<(Run, u32)>, Fault> {
        let (mut runs, mut room) = (Vec::new(), room);
        while room > 0 {
            let Some(ended) = self.first_ended(connection, now).await? else {
                break;
            };
            let first = measure(connection, ended.run, room).await?;
            let high = first.high.unwrap_or(ended.run.high);
            self.end_or_cut(connection, &ended, high).await?;
            if first.count > 0 {
                let run = (Run { high, ..ended.run }, ended.takeovers.saturating_add(1));
                self.claim(connection, run, holder).await?;
                runs.push(run);
            }
            room -= first.count.min(room);
        }
        Ok(runs)
    }

    async fn first_ended(
        &self,
        connection: &mut SqliteConnection,
        now: Timestamp,
    ) -> Result<Option<Ended>, Fault> {
        let row = sqlx::query(ENDED)
            .bind(self.queue)
            .bind(now.as_micros())
            .fetch_optional(connection)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Ended {
            token: row.try_get(0)?,
            run: Run {
                low: row.try_get(1)?,
                high: row.try_get(2)?,
            },
            takeovers: row.try_get(3)?,
        }))
    }

    /// Takes the places up to `high` away from a claim.
    async fn end_or_cut(
        &self,
        connection: &mut SqliteConnection,
        ended: &Ended,
        high: i64,
    ) -> Result<(), Fault> {
        let sql = if high >= ended.run.high { END } else { CUT };
        sqlx::query(sql)
            .bind(self.queue)
            .bind(ended.token)
            .bind(ended.run.low)
            .bind(high + 1)
            .execute(&mut *connection)
            .await?;
        // The rest of the run may have been settled already.
        let end = sqlx::query(END_EMPTY).bind(self.queue).bind(ended.token);
        end.execute(connection).await?;
        Ok(())
    }
}
