//! Settling anything but plain success: retries, quarantine, holding, and what parked rows wait for.

use std::collections::HashMap;

use bytes::Bytes;
use outbox_core::ports::{Outcome, Settlement};
use outbox_core::status::{AttemptRecord, OnFailure};
use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::history;
use super::lease;
use super::settle::{Settling, blocks};
use crate::codec::jsonb;
use crate::error::Fault;
use crate::quarantine::{self, Entry};
use crate::store::SqliteStore;
use outbox_core::packed::body;

/// Settles any outcomes, statement by statement; whether the lease is still held.
pub(super) async fn in_full(
    store: &SqliteStore,
    settling: &mut Settling<'_>,
    now: Timestamp,
) -> Result<bool, Fault> {
    let mut writer = store.writer().await?;
    writer.begin().await?;
    let connection = writer.connection();
    if !lease::is_current(connection, settling.epoch).await? {
        writer.rollback().await?;
        writer.finish();
        return Ok(false);
    }
    let mut present = present(connection, settling).await?;
    settling.lose_missing(|seq| present.contains_key(&seq));
    unpark_later(connection, settling).await?;
    let published = settling.rows(|outcome| *outcome == Outcome::Published);
    remove_published(connection, &published, store.options().keep_published, now).await?;
    let (mut waiting, mut dead) = (Vec::new(), Vec::new());
    for place in &settling.ours {
        let Settlement { token, outcome } = &settling.settlements[*place];
        let seq = token.sequence.0 as i64;
        let Some(row) = present.remove(&seq) else {
            continue;
        };
        match outcome {
            Outcome::Published | Outcome::Release => {}
            Outcome::Hold { until } => waiting.push(row.held(seq, *until)),
            Outcome::Retry {
                due_at,
                failure,
                on_failure,
            } => {
                waiting.push(row.to_retry(seq, *due_at, failure, *on_failure)?);
            }
            Outcome::Quarantine {
                failure,
                on_failure,
            } => {
                park_key(connection, &row, *on_failure).await?;
                dead.push(row.into_dead((seq, settling.epoch), failure, now));
            }
        }
    }
    make_wait(connection, &waiting).await?;
    bury(connection, &dead).await?;
    writer.commit().await?;
    writer.finish();
    Ok(true)
}

pub(super) const PRESENT: &str = "SELECT seq, attempts, history, ordering_key, first_failed_at, \
    iif(seq IN (SELECT value FROM json_each($2)), body, x''), \
    iif(seq IN (SELECT value FROM json_each($2)), redrives, 0), aside \
    FROM outbox_messages \
    WHERE seq IN (SELECT value FROM json_each($1)) AND state = 0";

/// Those rows that are still there to be settled, with what the outcome needs of them.
async fn present(
    connection: &mut SqliteConnection,
    settling: &Settling<'_>,
) -> Result<HashMap<i64, Present>, Fault> {
    let rows = jsonb::integers(settling.rows(|_| true));
    let needed = |outcome: &Outcome| !matches!(outcome, Outcome::Published | Outcome::Release);
    let needed = jsonb::integers(settling.rows(needed));
    let rows = sqlx::query(PRESENT)
        .bind(rows)
        .bind(needed)
        .fetch_all(connection)
        .await?;
    let mut present = HashMap::with_capacity(rows.len());
    for row in rows {
        let first_failed_at: Option<i64> = row.try_get(4)?;
        let history: Option<&str> = row.try_get(2)?;
        let found = Present {
            attempts: row.try_get(1)?,
            history: history.map(history::parse).unwrap_or_default(),
            ordering_key: row.try_get(3)?,
            first_failed_at: first_failed_at.map(Timestamp::from_micros),
            body: row.try_get::<Vec<u8>, _>(5)?.into(),
            redrives: row.try_get(6)?,
            aside: row.try_get(7)?,
        };
        present.insert(row.try_get(0)?, found);
    }
    Ok(present)
}

pub(crate) const UNPARK_LATER: &str = "INSERT OR IGNORE INTO outbox_unparking (ordering_key) \
    SELECT DISTINCT ordering_key FROM outbox_messages AS m \
    WHERE seq IN (SELECT value FROM json_each($1)) AND ordering_key IS NOT NULL \
    AND EXISTS (SELECT 1 FROM outbox_messages AS p WHERE p.state IN (1, 2) \
    AND p.ordering_key = m.ordering_key AND p.state = 2)";

/// Notes the keys that these settlements free, where rows are parked behind them.
async fn unpark_later(
    connection: &mut SqliteConnection,
    settling: &Settling<'_>,
) -> Result<(), Fault> {
    if !settling.parked {
        return Ok(());
    }
    let freeing = settling.rows(|outcome| *outcome != Outcome::Release && !blocks(outcome));
    sqlx::query(UNPARK_LATER)
        .bind(jsonb::integers(freeing))
        .execute(connection)
        .await?;
    Ok(())
}

async fn remove_published(
    connection: &mut SqliteConnection,
    rows: &[i64],
    keep: bool,
    now: Timestamp,
) -> Result<(), Fault> {
    let query = match keep {
        true => sqlx::query(
            "UPDATE outbox_messages SET state = 3, settled_at = $2 \
             WHERE seq IN (SELECT value FROM json_each($1))",
        ),
        false => sqlx::query(
            "DELETE FROM outbox_messages \
             WHERE seq IN (SELECT value FROM json_each($1)) AND $2 IS NOT NULL",
        ),
    };
    query
        .bind(jsonb::integers(rows.iter().copied()))
        .bind(now.as_micros())
        .execute(connection)
        .await?;
    Ok(())
}

/// A row that is to be settled.
struct Present {
    attempts: u32,
    history: Vec<AttemptRecord>,
    ordering_key: Option<String>,
    first_failed_at: Option<Timestamp>,
    body: Bytes,
    redrives: u32,
    /// Whether its last failure let its key go on.
    aside: bool,
}

/// The state of a row that waits and holds up its key.
const WAITING: u8 = 1;
/// The state of a row that waits while its key goes on.
const WAITING_ASIDE: u8 = 4;

/// What is written into a row that is to wait: number, due time, topic, state, attempts to add,
/// history, and the first failure.
type Wait = (i64, i64, String, u8, u32, Option<String>, Option<i64>);

impl Present {
    fn topic(&self) -> String {
        body::read(&self.body)
            .map(|message| message.topic)
            .unwrap_or_default()
    }

    fn held(&self, seq: i64, until: Timestamp) -> Wait {
        let state = if self.aside { WAITING_ASIDE } else { WAITING };
        (seq, until.as_micros(), self.topic(), state, 0, None, None)
    }

    fn to_retry(
        &self,
        seq: i64,
        due_at: Timestamp,
        failure: &AttemptRecord,
        on_failure: OnFailure,
    ) -> Result<Wait, Fault> {
        let mut history = self.history.clone();
        failure.clone().push_to(&mut history);
        let first = self.first_failed_at.unwrap_or(failure.at);
        let state = match on_failure {
            OnFailure::SkipMessage => WAITING_ASIDE,
            OnFailure::BlockKey | OnFailure::ParkKey => WAITING,
        };
        let history = quarantine::json(&history)?;
        let (due_at, first) = (due_at.as_micros(), first.as_micros());
        Ok((
            seq,
            due_at,
            self.topic(),
            state,
            1,
            Some(history),
            Some(first),
        ))
    }

    /// What quarantine keeps of it, now that it has failed for the last time.
    fn into_dead(self, (seq, epoch): (i64, i64), failure: &AttemptRecord, now: Timestamp) -> Entry {
        let message = body::read(&self.body);
        let mut history = self.history;
        failure.clone().push_to(&mut history);
        Entry {
            body: message.is_err().then_some(self.body),
            message: message.ok(),
            ordering_key: self.ordering_key,
            attempts: self.attempts.saturating_add(1),
            redrives: self.redrives,
            history,
            first_failed_at: self.first_failed_at.unwrap_or(failure.at),
            last_failed_at: failure.at,
            kind: failure.kind.clone(),
            error: failure.error.clone(),
            ..Entry::of_outbox(seq, epoch, now)
        }
    }
}

/// Moves rows to quarantine.
async fn bury(connection: &mut SqliteConnection, dead: &[Entry]) -> Result<(), Fault> {
    if dead.is_empty() {
        return Ok(());
    }
    quarantine::insert(connection, dead).await?;
    sqlx::query(BURIED)
        .bind(jsonb::integers(dead.iter().map(|entry| entry.seq)))
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) const BURIED: &str =
    "DELETE FROM outbox_messages WHERE seq IN (SELECT value FROM json_each($1))";

async fn park_key(
    connection: &mut SqliteConnection,
    row: &Present,
    on_failure: OnFailure,
) -> Result<(), Fault> {
    let (Some(key), OnFailure::ParkKey) = (&row.ordering_key, on_failure) else {
        return Ok(());
    };
    sqlx::query("INSERT OR IGNORE INTO outbox_parked_keys (ordering_key) VALUES ($1)")
        .bind(key)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) const MAKE_WAIT: &str = "UPDATE outbox_messages SET state = row.value ->> 3, \
    aside = (row.value ->> 3) = 4, due_at = row.value ->> 1, topic = row.value ->> 2, \
    attempts = attempts + (row.value ->> 4), \
    history = ifnull(row.value ->> 5, history), \
    first_failed_at = ifnull(row.value ->> 6, first_failed_at) \
    FROM json_each($1) AS row WHERE seq = (row.value ->> 0)";

async fn make_wait(connection: &mut SqliteConnection, rows: &[Wait]) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(MAKE_WAIT)
        .bind(quarantine::json(rows)?)
        .execute(connection)
        .await?;
    Ok(())
}
