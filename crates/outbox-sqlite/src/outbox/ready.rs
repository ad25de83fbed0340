//! Makes rows ready whose time has come, and rows whose key is free again, a bounded number a call.

use std::sync::Arc;

use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::lease;
use super::session::Key;
use super::shared::Shared;
use crate::codec::jsonb;
use crate::error::Fault;
use crate::store::SqliteStore;

/// The most due rows that one call makes ready.
const DUE_ROWS: usize = 1_000;
/// The most keys that one call looks at.
const KEYS: i64 = 64;
/// The most rows of one key that one call unparks: if the first of them fails, the others are
/// parked again.
const KEY_ROWS: i64 = 64;

/// What was made ready.
#[derive(Debug, Default)]
pub(super) struct MadeReady {
    /// Whether there was more of it than one call takes.
    pub(super) more: bool,
    /// Whether anything was.
    pub(super) any: bool,
    rows: Vec<(i64, Option<Key>)>,
}

/// Makes rows of the topics `due` ready that are due at `now`, and rows whose key was freed. `None`
/// where the lease of `epoch` is lost.
///
/// It need not be durable: what a loss of power undoes is done again.
pub(super) async fn make_ready(
    store: &SqliteStore,
    shared: &Shared,
    epoch: i64,
    due: &[String],
    now: Timestamp,
) -> Result<Option<MadeReady>, Fault> {
    let mut writer = store.swift_writer().await?;
    writer.begin().await?;
    if !lease::is_current(writer.connection(), epoch).await? {
        writer.rollback().await?;
        writer.finish();
        shared.end_session(epoch);
        return Ok(None);
    }
    let mut made = MadeReady::default();
    promote(writer.connection(), &mut made, due, now).await?;
    unpark(writer.connection(), &mut made).await?;
    made.any = !made.rows.is_empty();
    let rows = jsonb::integers(made.rows.iter().map(|(seq, _)| *seq));
    sqlx::query(
        "UPDATE outbox_messages SET state = 0 WHERE seq IN (SELECT value FROM json_each($1))",
    )
    .bind(rows)
    .execute(writer.connection())
    .await?;
    writer.commit().await?;
    shared.with_session(epoch, |session| {
        for (seq, key) in made.rows.drain(..) {
            session.ready_again(seq, key);
        }
    });
    writer.finish();
    Ok(Some(made))
}

/// Waiting rows of a topic that are due.
pub(super) const DUE: &str = "SELECT seq, ordering_key FROM outbox_messages \
    WHERE state IN (1, 4) AND topic = $1 AND due_at <= $2 ORDER BY due_at LIMIT +$3";

async fn promote(
    connection: &mut SqliteConnection,
    made: &mut MadeReady,
    due: &[String],
    now: Timestamp,
) -> Result<(), Fault> {
    for topic in due {
        let room = DUE_ROWS.saturating_sub(made.rows.len());
        if room == 0 {
            made.more = true;
            break;
        }
        let rows = sqlx::query(DUE)
            .bind(topic)
            .bind(now.as_micros())
            .bind(room as i64)
            .fetch_all(&mut *connection)
            .await?;
        made.more |= rows.len() == room;
        for row in rows {
            let key: Option<&str> = row.try_get(1)?;
            made.rows.push((row.try_get(0)?, key.map(Arc::from)));
        }
    }
    Ok(())
}

/// Keys that are to be unparked.
pub(super) const FREED: &str = "SELECT ordering_key FROM outbox_unparking LIMIT +$1";

async fn unpark(connection: &mut SqliteConnection, made: &mut MadeReady) -> Result<(), Fault> {
    let keys: Vec<String> = sqlx::query_scalar(FREED)
        .bind(KEYS)
        .fetch_all(&mut *connection)
        .await?;
    made.more |= keys.len() as i64 == KEYS;
    for key in keys {
        let rows = parked_rows(connection, &key).await?;
        if (rows.len() as i64) < KEY_ROWS {
            sqlx::query("DELETE FROM outbox_unparking WHERE ordering_key = $1")
                .bind(&key)
                .execute(&mut *connection)
                .await?;
        } else {
            made.more = true;
        }
        let key: Key = key.into();
        made.rows
            .extend(rows.into_iter().map(|seq| (seq, Some(Arc::clone(&key)))));
    }
    Ok(())
}

/// The first parked rows of a key, up to the first row that blocks it; none of a parked key.
pub(super) const PARKED: &str = "SELECT seq FROM outbox_messages \
    WHERE state IN (1, 2) AND ordering_key = $1 AND state = 2 \
        AND seq < ifnull((SELECT min(seq) FROM outbox_messages \
            WHERE state IN (1, 2) AND ordering_key = $1 AND state = 1), \
            9223372036854775807) \
        AND NOT EXISTS (SELECT 1 FROM outbox_parked_keys WHERE ordering_key = $1) \
    ORDER BY seq LIMIT +$2";

async fn parked_rows(connection: &mut SqliteConnection, key: &str) -> Result<Vec<i64>, Fault> {
    let rows = sqlx::query_scalar(PARKED).bind(key).bind(KEY_ROWS);
    Ok(rows.fetch_all(connection).await?)
}
