use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use outbox_core::delivery::Unreadable;
use outbox_core::error::OutboxError;
use outbox_core::lease::Receipt;
use outbox_core::message::Message;
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;
use serde::Serialize;
use sqlx::Row;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection, SqliteRow};

use super::frame;
use super::port::Inner;
use super::read_out::Unread;
use super::run::Holder;
use super::settle::Verdict;
use crate::codec::jsonb;
use crate::error::Fault;

const READ: &str = "\
    SELECT place, 0, NULL, '[]', body FROM outbox_entries \
    WHERE place IN (SELECT value FROM json_each(?1)) \
    UNION ALL \
    SELECT place, attempts, first_failed_at, history, body FROM outbox_returned \
    WHERE place IN (SELECT value FROM json_each(?1))";

const INSERT: &str = "\
    INSERT INTO outbox_quarantine ( \
        origin, place, attempts, history, first_failed_at, last_failed_at, error_kind, error, \
        quarantined_at, body, seq, epoch, id, topic, kind, kind_version, ordering_key, \
        content_type, headers, payload, aggregate, retry, created_at, due_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
        ?20, ?21, ?22, ?23, ?24)";

/// An entry that goes to quarantine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dead<'a> {
    pub(super) place: i64,
    /// What was wrong at last.
    pub(super) failure: &'a AttemptRecord,
    /// Whether that was an attempt.
    pub(super) counts: bool,
}

/// What is known of an entry besides its message.
struct Past {
    attempts: i64,
    first_failed_at: i64,
    history: Vec<AttemptRecord>,
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
        for dead in dead {
            if let Some(row) = stored.get(&dead.place) {
                self.insert(connection, *dead, row, now).await?;
            }
        }
        Ok(())
    }

    async fn insert(
        &self,
        connection: &mut SqliteConnection,
        dead: Dead<'_>,
        row: &SqliteRow,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let frame = Bytes::from(row.try_get::<Vec<u8>, _>(4)?);
        let message = frame::read(&frame).ok();
        let past = past(row, dead)?;
        let raw = message.is_none().then_some(&frame[..]);
        let insert = sqlx::query(INSERT)
            .bind(self.origin())
            .bind(self.span.entry(dead.place).major.cast_signed())
            .bind(past.attempts)
            .bind(json(&past.history)?)
            .bind(past.first_failed_at)
            .bind(dead.failure.at.as_micros())
            .bind(&dead.failure.kind)
            .bind(&dead.failure.error)
            .bind(now.as_micros())
            .bind(raw);
        let insert = bind_message(insert, message.as_ref())?;
        insert.execute(connection).await?;
        Ok(())
    }
}

/// The past of an entry, the failure that ended it among it.
fn past(row: &SqliteRow, dead: Dead<'_>) -> Result<Past, Fault> {
    let history: &str = row.try_get(3)?;
    // A damaged history must not keep a damaged entry in the queue.
    let mut history: Vec<AttemptRecord> = serde_json::from_str(history).unwrap_or_default();
    if dead.counts {
        dead.failure.clone().push_to(&mut history);
    }
    let first_failed_at: Option<i64> = row.try_get(2)?;
    Ok(Past {
        attempts: row.try_get::<i64, _>(1)? + i64::from(dead.counts),
        first_failed_at: first_failed_at.unwrap_or(dead.failure.at.as_micros()),
        history,
    })
}

type Insert<'q> = Query<'q, Sqlite, SqliteArguments>;

/// Binds the columns of the message itself; NULL where it could not be read.
fn bind_message<'q>(insert: Insert<'q>, message: Option<&'q Message>) -> Result<Insert<'q>, Fault> {
    let headers = message.map(|m| json(&m.headers)).transpose()?;
    let aggregate = message.and_then(|m| m.aggregate.as_ref());
    let retry = message.and_then(|m| m.retry.as_ref());
    Ok(insert
        .bind(message.map_or(0, |m| m.sequence.0.cast_signed()))
        .bind(message.map_or(0, |m| m.epoch.0.cast_signed()))
        .bind(message.map(|m| &m.id.as_bytes()[..]))
        .bind(message.map(|m| m.topic.as_str()))
        .bind(message.map(|m| m.kind.name.as_str()))
        .bind(message.map(|m| i64::from(m.kind.version)))
        .bind(message.and_then(|m| m.ordering_key.as_deref()))
        .bind(message.map(|m| m.content_type.as_str()))
        .bind(headers)
        .bind(message.map(|m| &m.payload[..]))
        .bind(aggregate.map(json).transpose()?)
        .bind(retry.map(json).transpose()?)
        .bind(message.map(|m| m.created_at.as_micros()))
        .bind(message.map(|m| m.due_at.as_micros())))
}

fn json<T: Serialize>(value: &T) -> Result<String, Fault> {
    serde_json::to_string(value)
        .map_err(|source| Fault::Told(OutboxError::codec("quarantined entry", source)))
}
