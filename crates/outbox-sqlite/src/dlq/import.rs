use std::collections::HashSet;

use outbox_core::id::MessageId;
use outbox_core::time::Timestamp;
use outbox_dlq::{Action, ActionKind, DeadLetter, ImportReport};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::audit::{self, Step};
use super::move_out::id;
use crate::codec::jsonb;
use crate::connect::Role;
use crate::error::Fault;
use crate::quarantine::{self, Entry};
use crate::store::SqliteStore;

pub(super) const KNOWN: &str = "\
    SELECT id, origin FROM outbox_quarantine \
    WHERE id IN (SELECT CAST(value AS BLOB) FROM json_each(?1))";

pub(super) const KNOWN_UNREADABLE: &str = "\
    SELECT 1 FROM outbox_quarantine WHERE quarantined_at = ?1 AND origin = ?2 AND id IS NULL \
    AND ?3 IN (imported_place, 'outbox row ' || seq, place || '-0')";

/// Adds those of `letters` that are not there.
pub(super) async fn import(
    store: &SqliteStore,
    letters: &[DeadLetter],
    (action, now): (&Action, Timestamp),
) -> Result<ImportReport, Fault> {
    let mut writer = store.background_writer(Role::Durable).await?;
    writer.begin().await?;
    let connection = writer.connection();
    let mut known = known(connection, letters).await?;
    let mut new = Vec::with_capacity(letters.len());
    let mut unreadable = HashSet::new();
    for letter in letters {
        let is_known = match &letter.message {
            Some(message) => !known.insert((message.id, letter.origin.to_string())),
            None => {
                let name = (&letter.origin, &letter.place, letter.quarantined_at);
                !unreadable.insert(name) || is_known(connection, letter).await?
            }
        };
        if !is_known {
            new.push(entry(letter));
        }
    }
    quarantine::insert(connection, &new).await?;
    let step = Step {
        kind: ActionKind::Import,
        action,
        what: "imported lines",
        letters: new.len() as u64,
        now,
    };
    audit::record(connection, step).await?;
    writer.commit().await?;
    writer.finish();
    Ok(ImportReport {
        imported: new.len() as u64,
        duplicates: (letters.len() - new.len()) as u64,
    })
}

async fn known(
    connection: &mut SqliteConnection,
    letters: &[DeadLetter],
) -> Result<HashSet<(MessageId, String)>, Fault> {
    let messages = letters.iter().filter_map(|letter| letter.message.as_ref());
    let ids = jsonb::texts(messages.map(|message| &message.id.as_bytes()[..]));
    let rows = sqlx::query(KNOWN).bind(ids).fetch_all(connection).await?;
    let pair = |row| Ok((id(row)?, row.try_get(1)?));
    rows.iter().map(pair).collect()
}

async fn is_known(connection: &mut SqliteConnection, letter: &DeadLetter) -> Result<bool, Fault> {
    let known = sqlx::query(KNOWN_UNREADABLE)
        .bind(letter.quarantined_at.as_micros())
        .bind(letter.origin.to_string())
        .bind(&letter.place)
        .fetch_optional(connection)
        .await?;
    Ok(known.is_some())
}

/// What quarantine keeps of a letter from elsewhere.
fn entry(letter: &DeadLetter) -> Entry {
    let message = letter.message.as_ref();
    Entry {
        imported_place: Some(letter.place.clone()),
        seq: message.map_or(0, |m| m.sequence.0.cast_signed()),
        epoch: message.map_or(0, |m| m.epoch.0.cast_signed()),
        ordering_key: message.and_then(|m| m.ordering_key.clone()),
        message: letter.message.clone(),
        body: letter.body.clone(),
        attempts: letter.attempts,
        redrives: letter.redrives,
        history: letter.history.clone(),
        first_failed_at: letter.first_failed_at,
        last_failed_at: letter.last_failed_at,
        kind: letter.kind.clone(),
        error: letter.error.clone(),
        ..Entry::leaving(letter.origin.to_string(), letter.quarantined_at)
    }
}
