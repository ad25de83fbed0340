//! A row of the quarantine as a dead letter.

use bytes::Bytes;
use outbox_core::error::{BoxError, OutboxError};
use outbox_core::id::MessageId;
use outbox_core::lease::{Epoch, Sequence};
use outbox_core::message::{Kind, Message};
use outbox_core::time::Timestamp;
use outbox_dlq::{DeadLetter, Fingerprint, LetterId, Origin};
use serde::de::DeserializeOwned;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use crate::error::Fault;

/// The columns that [`read`] reads.
pub(super) const COLUMNS: &str = "entry, origin, place, imported_place, seq, epoch, id, topic, kind, \
    kind_version, ordering_key, content_type, headers, payload, aggregate, retry, created_at, \
    due_at, attempts, redrives, history, first_failed_at, last_failed_at, error_kind, error, \
    quarantined_at, body, fingerprint";

/// A dead letter with what its table knows besides.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) letter: DeadLetter,
    /// Its number in what it left; `None` where it came from elsewhere.
    pub(super) position: Option<i64>,
}

/// What an origin is called in the table.
pub(super) fn origin(text: &str) -> Result<Origin, Fault> {
    let origin = text.parse();
    origin.map_err(|error| Fault::Told(OutboxError::codec("an origin of dead letters", error)))
}

/// The dead letter in `row`; where a part of it cannot be read, that is told in it.
pub(super) fn read(row: &SqliteRow) -> Result<Stored, Fault> {
    let moment = |column| Ok::<_, Fault>(Timestamp::from_micros(row.try_get(column)?));
    let message = message(row);
    let history = json(row, "history");
    let problems = [
        message
            .as_ref()
            .err()
            .map(|error| format!("message: {error}")),
        history
            .as_ref()
            .err()
            .map(|error| format!("history: {error}")),
    ];
    let problems: Vec<_> = problems.into_iter().flatten().collect();
    let (place, number) = place(row)?;
    let entry: i64 = row.try_get("entry")?;
    let body: Option<Vec<u8>> = row.try_get("body")?;
    let letter = DeadLetter {
        id: LetterId(entry.unsigned_abs()),
        origin: origin(row.try_get("origin")?)?,
        place,
        message: message.unwrap_or(None),
        body: body.map(Bytes::from),
        attempts: row.try_get("attempts")?,
        redrives: row.try_get("redrives")?,
        history: history.ok().flatten().unwrap_or_default(),
        first_failed_at: moment("first_failed_at")?,
        last_failed_at: moment("last_failed_at")?,
        kind: row.try_get("error_kind")?,
        error: row.try_get("error")?,
        quarantined_at: moment("quarantined_at")?,
        fingerprint: fingerprint(row)?,
        problem: (!problems.is_empty()).then(|| problems.join("; ")),
    };
    Ok(Stored {
        letter,
        position: number,
    })
}

/// The name of its place, and its number where it is one of ours.
fn place(row: &SqliteRow) -> Result<(String, Option<i64>), Fault> {
    if let Some(elsewhere) = row.try_get("imported_place")? {
        return Ok((elsewhere, None));
    }
    let seq: i64 = row.try_get("seq")?;
    Ok(match row.try_get::<Option<i64>, _>("place")? {
        Some(place) => (format!("{place}-0"), Some(place)),
        None => (format!("outbox row {seq}"), Some(seq)),
    })
}

/// The fingerprint of a row, which may not have been stored yet.
pub(super) fn fingerprint(row: &SqliteRow) -> Result<Fingerprint, Fault> {
    let stored: Option<&str> = row.try_get("fingerprint")?;
    if let Some(Ok(stored)) = stored.map(str::parse) {
        return Ok(stored);
    }
    let kind = match row.try_get::<Option<String>, _>("kind")? {
        Some(name) => {
            let version: Option<u32> = row.try_get("kind_version")?;
            let version = version.unwrap_or_default();
            Kind { name, version }.to_string()
        }
        None => String::new(),
    };
    let (error_kind, error) = (row.try_get("error_kind")?, row.try_get("error")?);
    Ok(Fingerprint::of(error_kind, &kind, error))
}

/// The message in `row`; `None` where there never was one that could be read.
fn message(row: &SqliteRow) -> Result<Option<Message>, BoxError> {
    let Some(id) = row.try_get::<Option<&[u8]>, _>("id")? else {
        return Ok(None);
    };
    let moment = |column| Ok::<_, BoxError>(Timestamp::from_micros(row.try_get(column)?));
    let number = |column| Ok::<_, BoxError>(row.try_get::<i64, _>(column)?.cast_unsigned());
    Ok(Some(Message {
        id: MessageId::from_bytes(id.try_into().map_err(|_| "an id has 16 bytes")?),
        topic: row.try_get("topic")?,
        kind: Kind {
            name: row.try_get("kind")?,
            version: row.try_get("kind_version")?,
        },
        ordering_key: row.try_get("ordering_key")?,
        payload: row.try_get::<Vec<u8>, _>("payload")?.into(),
        content_type: row.try_get("content_type")?,
        headers: json(row, "headers")?.unwrap_or_default(),
        aggregate: json(row, "aggregate")?,
        created_at: moment("created_at")?,
        due_at: moment("due_at")?,
        retry: json(row, "retry")?,
        sequence: Sequence(number("seq")?),
        epoch: Epoch(number("epoch")?),
    }))
}

fn json<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<Option<T>, BoxError> {
    let text: Option<&str> = row.try_get(column)?;
    Ok(text.map(serde_json::from_str).transpose()?)
}

/// `bytes` in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    let digits = bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
    digits.collect()
}
