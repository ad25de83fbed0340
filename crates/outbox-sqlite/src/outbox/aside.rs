//! Sets ready rows aside that must not be handed out, so that no later claim meets them again.

use outbox_core::delivery::Unreadable;
use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::lease;
use super::read::Obstacle;
use super::shared::Shared;
use crate::codec::jsonb::{self, Object};
use crate::error::Fault;
use crate::quarantine::{self, Entry};
use crate::store::SqliteStore;

/// Rows that a claim met and cannot hand out.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Behind an earlier row of their key.
    pub(super) parked: Vec<i64>,
    /// Their topic is paused; with the topic.
    pub(super) held: Vec<(i64, String)>,
    /// Unreadable, with the problem.
    pub(super) unreadable: Vec<(i64, String)>,
}

impl Aside {
    /// Notes why row `seq` cannot be handed out.
    pub(super) fn note(&mut self, seq: i64, obstacle: Obstacle) {
        match obstacle {
            Obstacle::Blocked => self.parked.push(seq),
            Obstacle::Damaged(damage) => self.unreadable.push((seq, damage.to_string())),
            Obstacle::Unread(_) => {}
        }
    }
}

pub(super) const PARK: &str = "UPDATE outbox_messages SET state = 2 \
    WHERE seq IN (SELECT value FROM json_each($1)) AND state = 0";

pub(super) const HOLD: &str = "UPDATE outbox_messages \
    SET state = iif(aside, 4, 1), topic = row.value \
    FROM json_each($1) AS row \
    WHERE outbox_messages.seq = CAST(row.key AS INTEGER) AND outbox_messages.state = 0";

/// Parks and holds; whether the lease of `epoch` is still held. It need not be durable: what a loss
/// of power undoes is done again.
pub(super) async fn park_and_hold(
    store: &SqliteStore,
    shared: &Shared,
    epoch: i64,
    aside: &Aside,
) -> Result<bool, Fault> {
    if aside.parked.is_empty() && aside.held.is_empty() {
        return Ok(true);
    }
    let mut writer = store.swift_writer().await?;
    writer.begin().await?;
    if !lease::is_current(writer.connection(), epoch).await? {
        writer.rollback().await?;
        writer.finish();
        shared.end_session(epoch);
        return Ok(false);
    }
    sqlx::query(PARK)
        .bind(jsonb::integers(aside.parked.iter().copied()))
        .execute(writer.connection())
        .await?;
    let mut held = Object::with_capacity(aside.held.len() * 48);
    for (seq, topic) in &aside.held {
        held.entry(
            |out| out.extend_from_slice(seq.to_string().as_bytes()),
            |out| out.extend_from_slice(topic.as_bytes()),
        );
    }
    sqlx::query(HOLD)
        .bind(held.into_bytes())
        .execute(writer.connection())
        .await?;
    writer.commit().await?;
    shared.with_session(epoch, |session| {
        session.parked |= !aside.parked.is_empty();
        let held = aside.held.iter().map(|(seq, _)| seq);
        aside
            .parked
            .iter()
            .chain(held)
            .for_each(|seq| session.left(*seq));
    });
    writer.finish();
    Ok(true)
}

/// Moves unreadable rows to quarantine, each by itself; `None` where the lease of `epoch` is lost.
pub(super) async fn quarantine_unreadable(
    store: &SqliteStore,
    shared: &Shared,
    epoch: i64,
    rows: &[(i64, String)],
    now: Timestamp,
) -> Result<Option<Vec<Unreadable>>, Fault> {
    if rows.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let mut writer = store.writer().await?;
    writer.begin().await?;
    if !lease::is_current(writer.connection(), epoch).await? {
        writer.rollback().await?;
        writer.finish();
        shared.end_session(epoch);
        return Ok(None);
    }
    for (seq, problem) in rows {
        move_unreadable(writer.connection(), *seq, epoch, problem, now).await?;
    }
    writer.commit().await?;
    shared.with_session(epoch, |session| {
        rows.iter().for_each(|(seq, _)| session.left(*seq))
    });
    writer.finish();
    let told = rows.iter().map(|(seq, problem)| Unreadable {
        place: place(*seq),
        problem: problem.clone(),
    });
    Ok(Some(told.collect()))
}

/// A row's own name.
pub(super) fn place(seq: i64) -> String {
    format!("outbox row {seq}")
}

async fn move_unreadable(
    connection: &mut SqliteConnection,
    seq: i64,
    epoch: i64,
    problem: &str,
    now: Timestamp,
) -> Result<(), Fault> {
    let row = sqlx::query(
        "DELETE FROM outbox_messages WHERE seq = $1 \
         RETURNING ordering_key, attempts, body, redrives",
    )
    .bind(seq)
    .fetch_all(&mut *connection)
    .await?;
    let Some(row) = row.first() else {
        return Ok(());
    };
    let key: Option<&str> = row.try_get(0)?;
    let entry = Entry {
        ordering_key: key.map(str::to_owned),
        attempts: row.try_get(1)?,
        redrives: row.try_get(3)?,
        body: Some(row.try_get::<Vec<u8>, _>(2)?.into()),
        kind: "unreadable".to_owned(),
        error: problem.to_owned(),
        ..Entry::of_outbox(seq, epoch, now)
    };
    quarantine::insert(connection, &[entry]).await?;
    if let Some(key) = key {
        unpark_later(connection, key).await?;
    }
    Ok(())
}

/// Notes that parked rows of `key` are to become ready.
pub(super) async fn unpark_later(
    connection: &mut SqliteConnection,
    key: &str,
) -> Result<(), Fault> {
    sqlx::query("INSERT OR IGNORE INTO outbox_unparking (ordering_key) VALUES ($1)")
        .bind(key)
        .execute(connection)
        .await?;
    Ok(())
}
