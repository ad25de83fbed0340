//! Puts messages that cannot be delivered where an operator can read them.

use bytes::Bytes;
use outbox_core::message::Message;
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;
use serde::Serialize;
use sqlx::sqlite::SqliteConnection;

use crate::codec::jsonb::{Fields, Object};
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

    /// Writes all but the bytes, in the order in which [`INSERT`] reads it.
    fn write_label(&self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let message = self.message.as_ref();
        let aggregate = message.and_then(|m| m.aggregate.as_ref());
        let retry = message.and_then(|m| m.retry.as_ref());
        let moment = |moment: Timestamp| Some(moment.as_micros());
        let mut label = Fields::begin(out);
        label
            .text(message.map(|m| m.id.as_bytes()))
            .text(Some(&self.origin))
            .integer(self.place)
            .text(self.imported_place.as_ref())
            .integer(Some(self.seq))
            .integer(Some(self.epoch))
            .text(message.map(|m| &m.topic))
            .text(message.map(|m| &m.kind.name))
            .integer(message.map(|m| i64::from(m.kind.version)))
            .text(self.ordering_key.as_ref())
            .text(message.map(|m| &m.content_type))
            .text(message.map(|m| json(&m.headers)).transpose()?)
            .text(aggregate.map(json).transpose()?)
            .text(retry.map(json).transpose()?)
            .integer(message.map(|m| m.created_at.as_micros()))
            .integer(message.map(|m| m.due_at.as_micros()))
            .integer(Some(i64::from(self.attempts)))
            .integer(Some(i64::from(self.redrives)))
            .text(Some(json(&self.history)?))
            .integer(moment(self.first_failed_at))
            .integer(moment(self.last_failed_at))
            .text(Some(&self.kind))
            .text(Some(&self.error))
            .integer(moment(self.now));
        label.end();
        Ok(())
    }
}

/// Many rows in one bound value: labels are arrays of fields, values the bytes of payload or body.
///
/// A label is taken out of the value once a row and read by place: by name, and taken out anew for each
/// column, it costs several times as much.
const INSERT: &str = "WITH rows (label, bytes) AS MATERIALIZED ( \
        SELECT CAST(key AS BLOB), CAST(value AS BLOB) FROM json_each($1)) \
    INSERT INTO outbox_quarantine ( \
        id, origin, place, imported_place, seq, epoch, topic, kind, kind_version, ordering_key, \
        content_type, headers, aggregate, retry, created_at, due_at, attempts, redrives, history, \
        first_failed_at, last_failed_at, error_kind, error, quarantined_at, payload, body) \
    SELECT CAST(label ->> 0 AS BLOB), label ->> 1, label ->> 2, label ->> 3, label ->> 4, label ->> 5, \
        label ->> 6, label ->> 7, label ->> 8, label ->> 9, label ->> 10, label ->> 11, \
        label ->> 12, label ->> 13, label ->> 14, label ->> 15, label ->> 16, label ->> 17, \
        label ->> 18, label ->> 19, label ->> 20, label ->> 21, label ->> 22, label ->> 23, \
        iif(label ->> 0 IS NULL, NULL, bytes), iif(label ->> 0 IS NULL, bytes, NULL) \
    FROM rows";

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
            let mut told = Ok(());
            rows.entry(
                |out| told = entry.write_label(out),
                |out| out.extend_from_slice(entry.bytes()),
            );
            told?;
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
