use outbox_core::error::OutboxError;
use outbox_core::time::Timestamp;
use outbox_dlq::{Action, ActionId, ActionKind, AuditRecord};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::error::Fault;

pub(super) const RECORD: &str = "\
    INSERT INTO outbox_audit (action, kind, done_by, reason, what, letters, began_at, ended_at) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7) \
    ON CONFLICT (action) DO UPDATE SET letters = letters + excluded.letters, \
        ended_at = excluded.ended_at";

pub(super) const READ: &str = "\
    SELECT number, action, kind, done_by, reason, what, letters, began_at, ended_at \
    FROM outbox_audit WHERE number > ?1 ORDER BY number LIMIT +?2";

/// A step of an action, to be recorded in the step itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    pub(super) kind: ActionKind,
    pub(super) action: &'a Action,
    /// Which dead letters were meant.
    pub(super) what: &'a str,
    /// How many it was about.
    pub(super) letters: u64,
    pub(super) now: Timestamp,
}

/// Records `step` in the transaction that `connection` is in.
pub(super) async fn record(connection: &mut SqliteConnection, step: Step<'_>) -> Result<(), Fault> {
    sqlx::query(RECORD)
        .bind(step.action.id.0.cast_signed())
        .bind(step.kind.word())
        .bind(&step.action.by)
        .bind(&step.action.reason)
        .bind(step.what)
        .bind(step.letters.cast_signed())
        .bind(step.now.as_micros())
        .execute(connection)
        .await?;
    Ok(())
}

/// The records behind number `after`.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    after: u64,
    max: usize,
) -> Result<Vec<AuditRecord>, Fault> {
    let rows = sqlx::query(READ)
        .bind(after.cast_signed())
        .bind(max as i64)
        .fetch_all(connection)
        .await?;
    rows.iter().map(audit_record).collect()
}

fn audit_record(row: &SqliteRow) -> Result<AuditRecord, Fault> {
    let number = |column| Ok::<_, Fault>(row.try_get::<i64, _>(column)?.cast_unsigned());
    let moment = |column| Ok::<_, Fault>(Timestamp::from_micros(row.try_get(column)?));
    let word: &str = row.try_get("kind")?;
    let unknown = || OutboxError::codec("a record of the audit", format!("no action `{word}`"));
    Ok(AuditRecord {
        number: number("number")?,
        kind: ActionKind::of(word).ok_or_else(unknown)?,
        action: Action {
            id: ActionId(number("action")?),
            by: row.try_get("done_by")?,
            reason: row.try_get("reason")?,
        },
        what: row.try_get("what")?,
        letters: number("letters")?,
        began_at: moment("began_at")?,
        ended_at: moment("ended_at")?,
    })
}
