//! The usual case of a step of the queue as one text of statements: one round trip to the driver's
//! thread, where a look between the statements would take one for each, and all of them hold the write
//! lock.
//!
//! Each text asks half way whether its case is the usual one. Where it is not, that fails with an
//! overflow before the commit, all is rolled back, and the step is taken with a look between.

use outbox_core::message::Message;
use outbox_core::ports::DequeueRequest;
use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};

use super::enqueue::{chunks, ids_of, pack};
use super::holding::Claimed;
use super::port::Inner;
use super::run::{HandedOut, Holder, MOST_BYTES, Run, limit};
use crate::answer;
use crate::codec::jsonb;
use crate::error::Fault;
use crate::runs::longest_run;
use crate::store::Writer;

/// Fails with an overflow where a condition does not hold.
macro_rules! only_if {
    ($condition:literal) => {
        concat!(
            "SELECT abs(iif(",
            $condition,
            ", 0, -9223372036854775807 - 1))"
        )
    };
}

/// Adds messages that are news, all of them, and fit.
pub(super) const ADD: &str = concat!(
    "BEGIN IMMEDIATE; \
    INSERT INTO outbox_enqueued (place, queue, id, enqueued_at) \
        SELECT (SELECT tail FROM outbox_queues WHERE queue = $1) + 1 + key, $1, \
            CAST(value AS BLOB), $2 FROM json_each($3) WHERE true ON CONFLICT DO NOTHING; ",
    only_if!("changes() = $4 AND (SELECT depth + $4 <= $5 FROM outbox_queues WHERE queue = $1)"),
    "; \
    INSERT INTO outbox_entries (place, enqueued_at, body) \
        SELECT (SELECT tail FROM outbox_queues WHERE queue = $1) + 1 + key, $2, \
            CAST(value AS BLOB) FROM json_each($6); \
    UPDATE outbox_queues SET tail = tail + $4, depth = depth + $4 WHERE queue = $1; \
    COMMIT"
);

/// Hands out the next entries, no more bytes of them than a batch may have.
pub(super) const TAKE: &str = concat!(
    "BEGIN IMMEDIATE; \
    INSERT INTO outbox_claims (queue, token, low, high, owner, expires_at) \
        SELECT queue, token + 1, head + 1, high, $2, $3 FROM outbox_queues CROSS JOIN ( \
            SELECT max(place) AS high, sum(bytes) AS bytes FROM ( \
                SELECT place, length(body) AS bytes FROM outbox_entries \
                WHERE place > (SELECT head FROM outbox_queues WHERE queue = $1) \
                AND place <= (SELECT tail FROM outbox_queues WHERE queue = $1) \
                ORDER BY place LIMIT +$4)) \
        WHERE queue = $1 AND bytes <= $5; ",
    only_if!("changes() = 1"),
    "; SELECT low, high, token FROM outbox_claims WHERE queue = $1 \
        AND token = (SELECT token + 1 FROM outbox_queues WHERE queue = $1); \
    UPDATE outbox_queues SET token = token + 1, head = (SELECT high FROM outbox_claims AS c \
        WHERE c.queue = $1 AND c.token = outbox_queues.token + 1) WHERE queue = $1; \
    COMMIT"
);

/// Within a transaction, settles entries that were never given back, a range and a list of them: all
/// are there, and none comes back.
pub(super) const SETTLE: &str = concat!(
    "DELETE FROM outbox_entries WHERE place BETWEEN $4 AND $5; ",
    only_if!("changes() = $5 - $4 + 1"),
    "; DELETE FROM outbox_entries WHERE place IN (SELECT value FROM json_each($6)); ",
    only_if!("changes() = $7"),
    "; ",
    super::settle::close!()
);

impl Inner {
    /// Adds `messages`; whether all were news and fitted, otherwise nothing was done.
    pub(super) async fn add_at_once(
        &self,
        messages: &[Message],
        now: Timestamp,
    ) -> Result<bool, Fault> {
        let one_chunk = chunks(messages).next().map(<[_]>::len) == Some(messages.len());
        if !one_chunk || self.sweeps(now) {
            return Ok(false);
        }
        // Before it is our turn: nobody waits for it then.
        let bodies = pack(messages.iter().enumerate());
        let query = sqlx::query(ADD)
            .bind(self.queue)
            .bind(now.as_micros())
            .bind(ids_of(messages))
            .bind(limit(messages.len()))
            .bind(limit(self.config.high_water))
            .bind(bodies);
        let mut writer = self.store.writer().await?;
        let added = answer(&mut writer, query, 6).await?.is_some();
        writer.finish();
        Ok(added)
    }

    /// Hands out entries that were never given back; nothing where that is not all there is to it.
    pub(super) async fn take_at_once(
        &self,
        writer: &mut Writer,
        request: &DequeueRequest,
        until: Timestamp,
    ) -> Result<Option<HandedOut>, Fault> {
        let query = sqlx::query(TAKE)
            .bind(self.queue)
            .bind(&request.owner.as_bytes()[..])
            .bind(until.as_micros())
            .bind(limit(request.max))
            .bind(MOST_BYTES);
        let Some(rows) = answer(writer, query, 6).await? else {
            return Ok(None);
        };
        let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
        let run = Run {
            low: row.try_get(0)?,
            high: row.try_get(1)?,
        };
        let holder = Holder {
            owner: request.owner,
            until,
            token: row.try_get(2)?,
        };
        Ok(Some(HandedOut {
            holder,
            runs: vec![(run, 0)],
            returned: 0,
        }))
    }

    /// Settles the entries at `places`, which ascend, in the transaction that has begun, and ends it;
    /// whether all were there, otherwise nothing was done.
    pub(super) async fn settle_at_once(
        &self,
        writer: &mut Writer,
        claims: &[Claimed],
        places: &[i64],
    ) -> Result<bool, Fault> {
        let run = longest_run(places);
        let others = places[..run.start].iter().chain(&places[run.end..]);
        let range = &places[run.clone()];
        let (Some(low), Some(high)) = (range.first(), range.last()) else {
            return Ok(false);
        };
        let query = sqlx::query(SETTLE)
            .bind(self.queue)
            .bind(jsonb::integers(claims.iter().map(|claim| claim.token)))
            .bind(limit(places.len()))
            .bind(low)
            .bind(high)
            .bind(jsonb::integers(others.copied()))
            .bind(limit(places.len() - run.len()));
        Ok(answer(writer, query, 7).await?.is_some())
    }
}

/// The rows of a text of so many statements; nothing where its case was not the usual one: it is rolled
/// back then.
async fn answer(
    writer: &mut Writer,
    query: Query<'_, Sqlite, SqliteArguments>,
    statements: usize,
) -> Result<Option<Vec<SqliteRow>>, Fault> {
    match answer::rows(writer.connection(), query, statements).await {
        Ok(rows) => Ok(Some(rows)),
        Err(fault) if fault.is_overflow() => {
            writer.rollback().await?;
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}
