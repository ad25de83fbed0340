use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use outbox_core::delivery::Unreadable;
use outbox_core::lease::Receipt;
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::port::Inner;
use super::read_out::Unread;
use super::run::Holder;
use super::settle::Verdict;
use crate::codec::jsonb;
use crate::error::Fault;
use crate::quarantine::{self, Entry};
use outbox_core::packed::frame;

pub(super) const READ: &str = "\
    SELECT place, 0, NULL, '[]', body, 0 FROM outbox_entries \
    WHERE place IN (SELECT value FROM json_each(?1)) \
    UNION ALL \
    SELECT place, attempts, first_failed_at, history, body, redrives FROM outbox_returned \
    WHERE place IN (SELECT value FROM json_each(?1))";

/// An entry that goes to quarantine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dead<'a> {
    pub(super) place: i64,
    /// What was wrong at last.
    pub(super) failure: &'a AttemptRecord,
    /// Whether that was an attempt.
    pub(super) counts: bool,
}

impl Inner {
    /// The queue's name in quarantine.
    pub(super) fn origin(&self) -> String {
        format!("queue:{}", self.config.name)
    }

    /// Sets aside entries that were handed out to `holder` and cannot be read; those that were
    /// still his.
    pub(super) async fn set_aside(
        &self,
        unread: &[Unread],
        holder: Holder,
        now: Timestamp,
    ) -> Result<Vec<Unreadable>, Fault> {
        let receipt = |unread: &Unread| Receipt {
            entry: self.span.entry(unread.place),
            owner: holder.owner,
            token: holder.token.unsigned_abs(),
        };
        let verdict = |unread: &Unread| Verdict::Dead {
            failure: AttemptRecord {
                at: now,
                duration: Duration::ZERO,
                kind: "unreadable".to_owned(),
                error: unread.problem.to_string(),
            },
            counts: false,
        };
        let receipts: Vec<_> = unread.iter().map(receipt).collect();
        let verdicts: Vec<_> = unread.iter().map(verdict).collect();
        let lost = self.judge(&receipts, &verdicts, now).await?.lost;
        let told = unread.iter().enumerate();
        let told = told.filter(|(index, _)| !lost.contains(index));
        let told = told.map(|(_, unread)| Unreadable {
            place: self.span.entry(unread.place).to_string(),
            problem: unread.problem.to_string(),
        });
        Ok(told.collect())
    }

    /// Copies `dead` entries to quarantine, with all that is known of them.
    pub(super) async fn quarantine(
        &self,
        connection: &mut SqliteConnection,
        dead: &[Dead<'_>],
        now: Timestamp,
    ) -> Result<(), Fault> {
        if dead.is_empty() {
            return Ok(());
        }
        let rows = sqlx::query(READ)
            .bind(jsonb::integers(dead.iter().map(|dead| dead.place)))
            .fetch_all(&mut *connection)
            .await?;
        let mut stored = HashMap::with_capacity(rows.len());
        for row in &rows {
            stored.insert(row.try_get::<i64, _>(0)?, row);
        }
        let mut entries = Vec::with_capacity(dead.len());
        for dead in dead {
            if let Some(row) = stored.get(&dead.place) {
                entries.push(self.dead_entry(*dead, row, now)?);
            }
        }
        quarantine::insert(connection, &entries).await
    }

    fn dead_entry(&self, dead: Dead<'_>, row: &SqliteRow, now: Timestamp) -> Result<Entry, Fault> {
        let frame = Bytes::from(row.try_get::<Vec<u8>, _>(4)?);
        let attempts: u32 = row.try_get(1)?;
        let first_failed_at: Option<i64> = row.try_get(2)?;
        // A damaged history must not keep a damaged entry in the queue.
        let history: &str = row.try_get(3)?;
        let mut history = serde_json::from_str(history).unwrap_or_default();
        if dead.counts {
            dead.failure.clone().push_to(&mut history);
        }
        Ok(Entry {
            place: Some(self.span.entry(dead.place).major.cast_signed()),
            attempts: attempts.saturating_add(u32::from(dead.counts)),
            redrives: row.try_get(5)?,
            history,
            first_failed_at: first_failed_at.map_or(dead.failure.at, Timestamp::from_micros),
            last_failed_at: dead.failure.at,
            kind: dead.failure.kind.clone(),
            error: dead.failure.error.clone(),
            ..dead_frame(&frame, self.origin(), now)
        })
    }
}

/// What quarantine keeps of the message in `frame`, or of its bytes where it cannot be read.
pub(crate) fn dead_frame(frame: &Bytes, origin: String, now: Timestamp) -> Entry {
    let message = frame::read(frame).ok();
    Entry {
        seq: message.as_ref().map_or(0, |m| m.sequence.0.cast_signed()),
        epoch: message.as_ref().map_or(0, |m| m.epoch.0.cast_signed()),
        ordering_key: message.as_ref().and_then(|m| m.ordering_key.clone()),
        body: message.is_none().then(|| frame.clone()),
        message,
        ..Entry::leaving(origin, now)
    }
}
