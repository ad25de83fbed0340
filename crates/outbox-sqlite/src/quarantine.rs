//! Puts messages that cannot be delivered where an operator can read them.

use outbox_core::message::Message;
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use crate::error::Fault;

/// What quarantine keeps of a message, and of how it got there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// What it leaves: `outbox`, or `queue:` and the name of a queue.
    pub(crate) origin: &'a str,
    /// The number of an entry in its queue.
    pub(crate) place: Option<i64>,
    /// Its message's number in the outbox.
    pub(crate) seq: i64,
    /// The lease that it was given up under.
    pub(crate) epoch: i64,
    /// The message; `None` where its row cannot be read.
    pub(crate) message: Option<&'a Message>,
    /// Its ordering key, which may be known where the message is not.
    pub(crate) ordering_key: Option<&'a str>,
    /// The row's bytes, where they cannot be read.
    pub(crate) body: Option<&'a [u8]>,
    /// How many attempts were made.
    pub(crate) attempts: u32,
    /// The failed attempts, oldest first.
    pub(crate) history: &'a [AttemptRecord],
    /// When the first failed attempt began.
    pub(crate) first_failed_at: Timestamp,
    /// When the last failed attempt began.
    pub(crate) last_failed_at: Timestamp,
    /// The last failure's kind.
    pub(crate) kind: &'a str,
    /// The last failure's text.
    pub(crate) error: &'a str,
    /// The present moment.
    pub(crate) now: Timestamp,
}

impl Entry<'_> {
    /// An entry of row `seq` of the outbox that has yet to be filled in.
    pub(crate) fn of_outbox(seq: i64, epoch: i64, now: Timestamp) -> Self {
        Self {
            origin: "outbox",
            place: None,
            seq,
            epoch,
            message: None,
            ordering_key: None,
            body: None,
            attempts: 0,
            history: &[],
            first_failed_at: now,
            last_failed_at: now,
            kind: "",
            error: "",
            now,
        }
    }
}

const INSERT: &str = "INSERT INTO outbox_quarantine ( \
    origin, seq, epoch, id, topic, kind, kind_version, ordering_key, content_type, headers, \
    payload, aggregate, retry, created_at, due_at, attempts, history, first_failed_at, \
    last_failed_at, error_kind, error, quarantined_at, body, place) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, \
    $20, $21, $22, $23, $24)";

/// Adds `entry` to quarantine, in the transaction that `connection` is in.
pub(crate) async fn insert(
    connection: &mut SqliteConnection,
    entry: &Entry<'_>,
) -> Result<(), Fault> {
    let message = entry.message;
    sqlx::query(INSERT)
        .bind(entry.origin)
        .bind(entry.seq)
        .bind(entry.epoch)
        .bind(message.map(|m| m.id.as_bytes().as_slice()))
        .bind(message.map(|m| m.topic.as_str()))
        .bind(message.map(|m| m.kind.name.as_str()))
        .bind(message.map(|m| m.kind.version))
        .bind(entry.ordering_key)
        .bind(message.map(|m| m.content_type.as_str()))
        .bind(message.map(|m| json(&m.headers)).transpose()?)
        .bind(message.map(|m| &m.payload[..]))
        .bind(
            message
                .and_then(|m| m.aggregate.as_ref())
                .map(json)
                .transpose()?,
        )
        .bind(
            message
                .and_then(|m| m.retry.as_ref())
                .map(json)
                .transpose()?,
        )
        .bind(message.map(|m| m.created_at.as_micros()))
        .bind(message.map(|m| m.due_at.as_micros()))
        .bind(entry.attempts)
        .bind(json(entry.history)?)
        .bind(entry.first_failed_at.as_micros())
        .bind(entry.last_failed_at.as_micros())
        .bind(entry.kind)
        .bind(entry.error)
        .bind(entry.now.as_micros())
        .bind(entry.body)
        .bind(entry.place)
        .execute(connection)
        .await?;
    Ok(())
}

/// `value` as JSON text.
pub(crate) fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String, Fault> {
    let text = serde_json::to_string(value).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    Ok(text)
}
