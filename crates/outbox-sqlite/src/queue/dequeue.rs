use std::time::Duration;

use outbox_core::ports::{DequeueReport, DequeueRequest};
use outbox_core::signal::Wake;
use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use tokio::time::{Instant, timeout};

use super::look::View;
use super::port::Inner;
use super::run::{HandedOut, Holder, Returned, Run, measure};
use crate::error::Fault;

/// The shortest wait of a caller that does not recover what he was told is stuck.
const BREATH: Duration = Duration::from_millis(50);

pub(super) const READ: &str = "SELECT head, tail, token FROM outbox_queues WHERE queue = ?1";

pub(super) const WRITE: &str = "UPDATE outbox_queues SET head = ?2, token = ?3 WHERE queue = ?1";

impl Inner {
    /// Hands out what there is, waiting for the first of it.
    ///
    /// The wait ends early, with nothing, where the lease of another owner ends: the caller is told
    /// so in `next_expiry`, and is to take over what is stuck.
    pub(super) async fn dequeue(&self, request: &DequeueRequest) -> Result<DequeueReport, Fault> {
        // Who does not wait needs nobody who watches.
        let wake = if request.wait.is_zero() {
            &Wake::new()
        } else {
            self.store.wake()
        };
        let mut wakes = wake.listen();
        let started = Instant::now();
        let mut waited = Duration::ZERO;
        loop {
            wakes.mark_seen();
            let now = request.now + waited;
            let view = self.look(request.owner).await?;
            if view.has_work(now) {
                let report = self.take(request, now, view).await?;
                if !report.deliveries.is_empty() || !report.unreadable.is_empty() {
                    return Ok(report);
                }
                if waited < request.wait {
                    // Somebody else was quicker.
                    waited = started.elapsed();
                    continue;
                }
            }
            let stuck = view.next_expiry.is_some_and(|end| end <= now);
            if waited >= request.wait || (stuck && waited >= BREATH) {
                return Ok(DequeueReport {
                    next_expiry: view.next_expiry,
                    ..DequeueReport::default()
                });
            }
            let pause = pause(view, now).min(request.wait - waited);
            // Either end of the pause means the same: look again.
            timeout(pause, wakes.notified()).await.ok();
            waited = started.elapsed();
        }
    }

    /// Hands out up to `request.max` entries.
    async fn take(
        &self,
        request: &DequeueRequest,
        now: Timestamp,
        view: View,
    ) -> Result<DequeueReport, Fault> {
        let mut writer = self.store.swift_writer().await?;
        writer.begin().await?;
        let handed_out = self.lease_next(writer.connection(), request, now).await?;
        writer.commit().await?;
        writer.finish();
        if handed_out.is_empty() {
            return Ok(DequeueReport::default());
        }
        let mut report = self.read_out(&handed_out, now).await?;
        report.next_expiry = view.next_expiry;
        Ok(report)
    }

    /// Leases the next entries: those that were given back and are due, and then fresh ones.
    async fn lease_next(
        &self,
        connection: &mut SqliteConnection,
        request: &DequeueRequest,
        now: Timestamp,
    ) -> Result<HandedOut, Fault> {
        let row = sqlx::query(READ)
            .bind(self.queue)
            .fetch_one(&mut *connection)
            .await?;
        let (head, tail): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let holder = Holder {
            owner: request.owner,
            until: now + request.lease,
            token: row.try_get::<i64, _>(2)? + 1,
        };
        let due = (holder, now);
        let returned = self
            .take_returned(connection, Returned::Due, due, request.max)
            .await?;
        let room = request.max.saturating_sub(returned);
        let fresh = Run {
            low: head + 1,
            high: tail,
        };
        let run = self.claim_first(connection, fresh, holder, room).await?;
        // Where no entry lies beyond the head, its places were never filled.
        let head = match run {
            Some(run) => run.high,
            None if room > 0 => tail,
            None => head,
        };
        sqlx::query(WRITE)
            .bind(self.queue)
            .bind(head)
            .bind(holder.token)
            .execute(connection)
            .await?;
        Ok(HandedOut {
            holder,
            runs: run.into_iter().collect(),
            returned,
        })
    }

    /// Claims up to `room` entries at the start of `run`.
    async fn claim_first(
        &self,
        connection: &mut SqliteConnection,
        run: Run,
        holder: Holder,
        room: usize,
    ) -> Result<Option<Run>, Fault> {
        if room == 0 || run.low > run.high {
            return Ok(None);
        }
        let Some(high) = measure(connection, run, room).await?.high else {
            return Ok(None);
        };
        let claimed = Run { high, ..run };
        self.claim(connection, claimed, holder).await?;
        Ok(Some(claimed))
    }
}

/// How long nothing can change by itself.
fn pause(view: View, now: Timestamp) -> Duration {
    let ends = view.next_expiry.map(|end| end.since(now).max(BREATH));
    let due = view.next_due.map(|due| due.since(now));
    ends.into_iter().chain(due).min().unwrap_or(Duration::MAX)
}
