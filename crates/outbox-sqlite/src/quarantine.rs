//! Puts messages that cannot be delivered where an operator can read them.

mod insert;

use bytes::Bytes;
use outbox_core::message::Message;
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;
use serde::Serialize;

use crate::error::Fault;

pub(crate) use insert::insert;

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
}

/// `value` as JSON text.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, Fault> {
    let text = serde_json::to_string(value).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    Ok(text)
}
