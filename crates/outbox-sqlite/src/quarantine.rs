//! Puts messages that cannot be delivered where an operator can read them.

use bytes::Bytes;
use outbox_core::message::{Aggregate, Headers, Message, RetryOverride};
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;
use serde::Serialize;
use sqlx::sqlite::SqliteConnection;

use crate::codec::jsonb::Object;
use crate::error::Fault;

/// The most rows that one statement inserts.
const STATEMENT_ROWS: usize = 500;
/// About the most bytes that one statement inserts; a single larger row still goes.
const STATEMENT_BYTES: usize = 4 << 20;

/// What quarantine keeps of a message, and of how it got there.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// What it leaves: `outbox`, or `queue:` and the name of a queue.
    pub(crate) origin: String,
    /// The number of an entry in its queue.
    pub(crate) place: Option<i64>,
    /// The name of its place elsewhere, where it was read in from there.
    pub(crate) imported_place: Option<String>,
    /// Its message's number in the outbox.
    pub(crate) seq: i64,
    /// The lease that it was given up under.
    pub(crate) epoch: i64,
    /// The message; `None` where its row cannot be read.
    pub(crate) message: Option<Message>,
    /// Its ordering key, which may be known where the message is not.
    pub(crate) ordering_key: Option<String>,
    /// The row's bytes, where they cannot be read.
    pub(crate) body: Option<Bytes>,
    /// How many attempts were made.
    pub(crate) attempts: u32,
    /// How often it was sent back from quarantine.
    pub(crate) redrives: u32,
    /// The failed attempts, oldest first.
    pub(crate) history: Vec<AttemptRecord>,
    /// When the first failed attempt began.
    pub(crate) first_failed_at: Timestamp,
    /// When the last failed attempt began.
    pub(crate) last_failed_at: Timestamp,
    /// The last failure's kind.
    pub(crate) kind: String,
    /// The last failure's text.
    pub(crate) error: String,
    /// When it comes to rest.
    pub(crate) now: Timestamp,
}

impl Entry {
    /// An entry that leaves `origin` at `now`, and that has yet to be filled in.
    pub(crate) fn leaving(origin: impl Into<String>, now: Timestamp) -> Self {
        Self {
            origin: origin.into(),
            place: None,
            imported_place: None,
            seq: 0,
            epoch: 0,
            message: None,
            ordering_key: None,
            body: None,
            attempts: 0,
            redrives: 0,
            history: Vec::new(),
            first_failed_at: now,
            last_failed_at: now,
            kind: String::new(),
            error: String::new(),
            now,
        }
    }

    /// An entry of row `seq` of the outbox.
    pub(crate) fn of_outbox(seq: i64, epoch: i64, now: Timestamp) -> Self {
        Self {
            seq,
            epoch,
            ..Self::leaving("outbox", now)
        }
    }

    /// The bytes that are stored as they are.
    fn bytes(&self) -> &[u8] {
        match (&self.message, &self.body) {
            (Some(message), _) => &message.payload,
            (None, Some(body)) => body,
            (None, None) => &[],
        }
    }

    fn size_hint(&self) -> usize {
        2_048 + self.bytes().len()
    }

    /// All but the bytes, as SQL reads it.
    fn label(&self) -> Label<'_> {
        let message = self.message.as_ref();
        Label {
            origin: &self.origin,
            place: self.place,
            imported_place: self.imported_place.as_deref(),
            seq: self.seq,
            epoch: self.epoch,
            id: message.map(|m| hex(m.id.as_bytes())),
            topic: message.map(|m| m.topic.as_str()),
            kind: message.map(|m| m.kind.name.as_str()),
            kind_version: message.map(|m| m.kind.version),
            ordering_key: self.ordering_key.as_deref(),
            content_type: message.map(|m| m.content_type.as_str()),
            headers: message.map(|m| &m.headers),
            aggregate: message.and_then(|m| m.aggregate.as_ref()),
            retry: message.and_then(|m| m.retry.as_ref()),
            created_at: message.map(|m| m.created_at),
            due_at: message.map(|m| m.due_at),
            attempts: self.attempts,
            redrives: self.redrives,
            history: &self.history,
            first_failed_at: self.first_failed_at,
            last_failed_at: self.last_failed_at,
            error_kind: &self.kind,
            error: &self.error,
            quarantined_at: self.now,
        }
    }
}

#[derive(Serialize)]
struct Label<'a> {
    origin: &'a str,
    place: Option<i64>,
    imported_place: Option<&'a str>,
    seq: i64,
    epoch: i64,
    id: Option<String>,
    topic: Option<&'a str>,
    kind: Option<&'a str>,
    kind_version: Option<u32>,
    ordering_key: Option<&'a str>,
    content_type: Option<&'a str>,
    headers: Option<&'a Headers>,
    aggregate: Option<&'a Aggregate>,
    retry: Option<&'a RetryOverride>,
    created_at: Option<Timestamp>,
    due_at: Option<Timestamp>,
    attempts: u32,
    redrives: u32,
    history: &'a [AttemptRecord],
    first_failed_at: Timestamp,
    last_failed_at: Timestamp,
    error_kind: &'a str,
    error: &'a str,
    quarantined_at: Timestamp,
}

/// Many rows in one bound value: labels are JSON texts, values the bytes of payload or body.
const INSERT: &str = "INSERT INTO outbox_quarantine ( \
    origin, place, imported_place, seq, epoch, id, topic, kind, kind_version, ordering_key, \
    content_type, headers, payload, aggregate, retry, created_at, due_at, attempts, redrives, \
    history, first_failed_at, last_failed_at, error_kind, error, quarantined_at, body) \
    SELECT key ->> 'origin', key ->> 'place', key ->> 'imported_place', key ->> 'seq', \
        key ->> 'epoch', unhex(key ->> 'id'), key ->> 'topic', key ->> 'kind', \
        key ->> 'kind_version', key ->> 'ordering_key', key ->> 'content_type', \
        key ->> 'headers', iif(key ->> 'id' IS NULL, NULL, CAST(value AS BLOB)), \
        key ->> 'aggregate', key ->> 'retry', key ->> 'created_at', key ->> 'due_at', \
        key ->> 'attempts', key ->> 'redrives', key ->> 'history', key ->> 'first_failed_at', \
        key ->> 'last_failed_at', key ->> 'error_kind', key ->> 'error', \
        key ->> 'quarantined_at', iif(key ->> 'id' IS NULL, CAST(value AS BLOB), NULL) \
    FROM json_each($1)";

/// Adds `entries` to quarantine, in the transaction that `connection` is in.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    entries: &[Entry],
) -> Result<(), Fault> {
    let mut rest = entries;
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(fitting(rest));
        rest = after;
        let mut rows = Object::with_capacity(chunk.iter().map(Entry::size_hint).sum());
        for entry in chunk {
            let label = json(&entry.label())?;
            rows.entry(
                |out| out.extend_from_slice(label.as_bytes()),
                |out| out.extend_from_slice(entry.bytes()),
            );
        }
        sqlx::query(INSERT)
            .bind(rows.into_bytes())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// How many of `entries` one statement takes.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        let fits = bytes == 0 || bytes < STATEMENT_BYTES;
        bytes += entry.size_hint();
        fits
    };
    entries.iter().take(STATEMENT_ROWS).take_while(fits).count()
}

/// `value` as JSON text.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Fault> {
    let text = serde_json::to_string(value).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    Ok(text)
}

/// `bytes` in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    let digits = bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]);
    digits.collect()
}
