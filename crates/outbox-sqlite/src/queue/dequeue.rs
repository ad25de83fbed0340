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

/// From how many entries on it pays to have the connection that enqueues them hand them out.
const MANY: usize = 64;

pub(super) const OPEN: &str = "\
    BEGIN IMMEDIATE; SELECT head, tail, token FROM outbox_queues WHERE queue = $1";

/// Claims a run, where there is one, and moves the head behind it.
pub(super) const CLOSE: &str = "\
    INSERT INTO outbox_claims (queue, token, low, high, owner, expires_at) \
    SELECT $1, $2, $3, $4, $5, $6 WHERE $3 <= $4; \
    UPDATE outbox_queues SET head = $7, token = $2 WHERE queue = $1; \
    COMMIT";

/// How far a queue has come.
#[derive(Clone, Copy, Debug)]
struct Position {
    head: i64,
    tail: i64,
}

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
                return Ok(view.nothing());
            }
            let pause = pause(view, now).min(request.wait - waited);
            let woken = timeout(pause, wakes.notified()).await.is_ok();
            waited = started.elapsed();
            // What nothing told of is seen by the next call.
            if !woken && waited >= request.wait {
                return Ok(view.nothing());
            }
        }
    }

    /// Hands out up to `request.max` entries.
    async fn take(
        &self,
        request: &DequeueRequest,
        now: Timestamp,
        view: View,
    ) -> Result<DequeueReport, Fault> {
        let many = request.max >= MANY && view.fresh >= MANY as i64;
        let mut writer = match many {
            true => self.store.bulk_writer().await?,
            false => self.store.swift_writer().await?,
        };
        let until = now + request.lease;
        let at_once = match view.has_due(now) {
            false => self.take_at_once(&mut writer, request, until).await?,
            true => None,
        };
        let handed_out = match at_once {
            Some(handed_out) => handed_out,
            None => {
                let connection = writer.connection();
                let (position, token) = self.begin_at_head(connection).await?;
                let holder = Holder {
                    owner: request.owner,
                    until,
                    token,
                };
                let how = (holder, now);
                self.hand_out(connection, request.max, how, (position, view))
                    .await?
            }
        };
        writer.finish();
        if handed_out.is_empty() {
            return Ok(DequeueReport::default());
        }
        let mut report = self.read_out(&handed_out, now).await?;
        report.next_expiry = view.next_expiry;
        Ok(report)
    }

    /// Begins a transaction; answers how far the queue has come, and the next token.
    async fn begin_at_head(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<(Position, i64), Fault> {
        let open = sqlx::query(OPEN).bind(self.queue);
        let row = open.fetch_one(connection).await?;
        let position = Position {
            head: row.try_get(0)?,
            tail: row.try_get(1)?,
        };
        Ok((position, row.try_get::<i64, _>(2)? + 1))
    }

    /// Leases the next entries, those that were given back and are due, and then fresh ones; and
    /// commits.
    async fn hand_out(
        &self,
        connection: &mut SqliteConnection,
        max: usize,
        (holder, now): (Holder, Timestamp),
        (position, view): (Position, View),
    ) -> Result<HandedOut, Fault> {
        let mut returned = 0;
        if view.has_due(now) {
            let due = (holder, now);
            let take = self.take_returned(connection, Returned::Due, due, max);
            returned = take.await?;
        }
        let room = max.saturating_sub(returned);
        let (run, head) = first_fresh(connection, position, room).await?;
        self.commit_head(connection, run, holder, head).await?;
        Ok(HandedOut {
            holder,
            runs: run.map(|run| (run, 0)).into_iter().collect(),
            returned,
        })
    }

    /// Writes what was handed out, and commits.
    async fn commit_head(
        &self,
        connection: &mut SqliteConnection,
        run: Option<Run>,
        holder: Holder,
        head: i64,
    ) -> Result<(), Fault> {
        let run = run.unwrap_or(Run::NONE);
        sqlx::query(CLOSE)
            .bind(self.queue)
            .bind(holder.token)
            .bind(run.low)
            .bind(run.high)
            .bind(&holder.owner.as_bytes()[..])
            .bind(holder.until.as_micros())
            .bind(head)
            .execute(connection)
            .await?;
        Ok(())
    }
}

/// The next entries that were never handed out, up to `room` of them, and the head behind them.
async fn first_fresh(
    connection: &mut SqliteConnection,
    Position { head, tail }: Position,
    room: usize,
) -> Result<(Option<Run>, i64), Fault> {
    let fresh = Run {
        low: head + 1,
        high: tail,
    };
    if room == 0 || head >= tail {
        return Ok((None, head));
    }
    Ok(match measure(connection, fresh, room).await?.high {
        Some(high) => (Some(Run { high, ..fresh }), high),
        // These places were never filled.
        None => (None, tail),
    })
}

/// How long nothing can change by itself.
fn pause(view: View, now: Timestamp) -> Duration {
    let ends = view.next_expiry.map(|end| end.since(now).max(BREATH));
    let due = view.next_due.map(|due| due.since(now));
    ends.into_iter().chain(due).min().unwrap_or(Duration::MAX)
}
