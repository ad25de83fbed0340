use std::time::Duration;

use outbox_core::ports::{DequeueReport, RecoverRequest};
use outbox_core::time::Timestamp;

use super::dequeue::{READ, token_in, too_short};
use super::entry::Entry;
use super::settle::places_in;
use super::stats::moment_in;
use super::{RedisQueue, consumer, is_due, micros, millis, number, owner_bytes, scripts};
use crate::error::Fault;
use crate::link::Arg;

/// How often consumers of workers that are gone are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// How long such a consumer has done nothing.
const FORGET_AFTER: Duration = Duration::from_mins(10);

/// What one step of a walk through the pending entries found.
struct Step {
    report: DequeueReport,
    /// Where to go on; empty at the end.
    cursor: String,
    next_expiry: Option<Timestamp>,
    now: Timestamp,
}

impl RedisQueue {
    pub(super) async fn take_over(&self, request: &RecoverRequest) -> Result<DequeueReport, Fault> {
        self.forget_now_and_then().await?;
        let mut all = DequeueReport::default();
        let mut cursor = "-".to_owned();
        loop {
            let found = all.deliveries.len() + all.unreadable.len();
            let step = self.step(request, &cursor, found).await?;
            all.deliveries.extend(step.report.deliveries);
            all.unreadable.extend(step.report.unreadable);
            let found = all.deliveries.len() + all.unreadable.len();
            if step.cursor.is_empty() || found >= request.max.clamp(1, READ) {
                let from_now = |end: Timestamp| request.now + end.since(step.now);
                all.next_expiry = step.next_expiry.map(from_now);
                return Ok(all);
            }
            cursor = step.cursor;
        }
    }

    async fn step(
        &self,
        request: &RecoverRequest,
        cursor: &str,
        found: usize,
    ) -> Result<Step, Fault> {
        let now = request.now;
        let most = request.max.clamp(1, READ) - found;
        let args = vec![
            owner_bytes(request.owner),
            consumer(request.owner),
            micros(request.lease),
            millis(self.0.config.grace),
            number(most),
            Arg::from(cursor),
            number(usize::from(found > 0)),
        ];
        let reply = self
            .run_repairing(&scripts::RECOVER, Some(now), args)
            .await?;
        let mut parts = reply.list()?;
        let mut next = || parts.next().ok_or_else(too_short);
        let token = token_in(next()?)?;
        let mut entries = Entry::list(next()?)?;
        let gone = next()?.list()?.len();
        let cursor = next()?.text()?;
        let next_expiry = moment_in(next()?)?;
        let server_now = moment_in(next()?)?.unwrap_or(now);
        for (entry, times) in entries.iter_mut().zip(places_in(next()?)?) {
            entry.takeovers = u32::try_from(times).unwrap_or(u32::MAX);
        }
        if gone > 0 {
            self.note_loss(&format!("{gone} entries are gone that were in flight"));
        }
        let opened = self.open_all(entries, request.owner);
        let report = self.hand_out(opened, (request.owner, token), now);
        Ok(Step {
            report: report.await?,
            cursor,
            next_expiry,
            now: server_now,
        })
    }

    pub(super) async fn forget_now_and_then(&self) -> Result<(), Fault> {
        if is_due(&self.0.forgot, FORGET_EVERY) {
            let args = vec![millis(FORGET_AFTER)];
            self.run_repairing(&scripts::FORGET, None, args).await?;
        }
        Ok(())
    }
}
