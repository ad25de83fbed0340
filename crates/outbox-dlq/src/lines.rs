//! A dead letter as one line of JSON, with all that it has.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use outbox_core::error::{OutboxError, Result};
use outbox_core::id::MessageId;
use outbox_core::lease::{Epoch, Sequence};
use outbox_core::message::{Aggregate, Headers, Kind, Message, RetryOverride};
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::letter::{DeadLetter, LetterId};
use crate::origin::Origin;

/// The version of the form.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Line {
    dead_letter: u32,
    origin: Origin,
    place: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<MessageLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    attempts: u32,
    redrives: u32,
    history: Vec<AttemptRecord>,
    first_failed_at: Timestamp,
    last_failed_at: Timestamp,
    error_kind: String,
    error: String,
    quarantined_at: Timestamp,
    #[serde(default, skip_deserializing)]
    fingerprint: String,
}

#[derive(Serialize, Deserialize)]
struct MessageLine {
    id: MessageId,
    topic: String,
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ordering_key: Option<String>,
    payload_base64: String,
    content_type: String,
    headers: Headers,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aggregate: Option<Aggregate>,
    created_at: Timestamp,
    due_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<RetryOverride>,
    sequence: Sequence,
    epoch: Epoch,
}

/// `letter` as one line of JSON, its end included. Bytes are in base64, moments in microseconds since
/// 1970; the fingerprint is there to be read by people and tools.
///
/// # Errors
/// [`OutboxError::Codec`] where it cannot be written as JSON.
pub fn write_line(letter: &DeadLetter) -> Result<String> {
    let line = Line {
        dead_letter: VERSION,
        origin: letter.origin.clone(),
        place: letter.place.clone(),
        message: letter.message.as_ref().map(MessageLine::from),
        body_base64: letter
            .body
            .as_ref()
            .map(|body| BASE64_STANDARD.encode(body)),
        attempts: letter.attempts,
        redrives: letter.redrives,
        history: letter.history.clone(),
        first_failed_at: letter.first_failed_at,
        last_failed_at: letter.last_failed_at,
        error_kind: letter.kind.clone(),
        error: letter.error.clone(),
        quarantined_at: letter.quarantined_at,
        fingerprint: letter.fingerprint.to_string(),
    };
    let mut text = serde_json::to_string(&line)
        .map_err(|error| OutboxError::codec(format!("dead letter {}", letter.id), error))?;
    text.push('\n');
    Ok(text)
}

/// The dead letter in a line that [`write_line`] wrote; it has no number yet.
///
/// # Errors
/// [`OutboxError::Codec`] where the line is not one.
pub fn read_line(line: &str) -> Result<DeadLetter> {
    let codec = |error| OutboxError::codec("a line of dead letters", error);
    let line: Line = serde_json::from_str(line).map_err(codec)?;
    if line.dead_letter != VERSION {
        return Err(OutboxError::Schema {
            found: format!("dead letters of version {}", line.dead_letter),
            supported: VERSION.to_string(),
        });
    }
    let message = line.message.map(Message::try_from).transpose()?;
    let body = line.body_base64.as_deref().map(decode).transpose()?;
    let fingerprint = DeadLetter::fingerprint_of(message.as_ref(), &line.error_kind, &line.error);
    Ok(DeadLetter {
        id: LetterId(0),
        origin: line.origin,
        place: line.place,
        message,
        body,
        attempts: line.attempts,
        redrives: line.redrives,
        history: line.history,
        first_failed_at: line.first_failed_at,
        last_failed_at: line.last_failed_at,
        kind: line.error_kind,
        error: line.error,
        quarantined_at: line.quarantined_at,
        fingerprint,
        problem: None,
    })
}

fn decode(text: &str) -> Result<Bytes> {
    let bytes = BASE64_STANDARD.decode(text);
    bytes
        .map(Bytes::from)
        .map_err(|error| OutboxError::codec("base64 in a line of dead letters", error))
}

impl From<&Message> for MessageLine {
    fn from(message: &Message) -> Self {
        Self {
            id: message.id,
            topic: message.topic.clone(),
            kind: message.kind.clone(),
            ordering_key: message.ordering_key.clone(),
            payload_base64: BASE64_STANDARD.encode(&message.payload),
            content_type: message.content_type.clone(),
            headers: message.headers.clone(),
            aggregate: message.aggregate.clone(),
            created_at: message.created_at,
            due_at: message.due_at,
            retry: message.retry.clone(),
            sequence: message.sequence,
            epoch: message.epoch,
        }
    }
}

impl TryFrom<MessageLine> for Message {
    type Error = OutboxError;

    fn try_from(line: MessageLine) -> Result<Self> {
        Ok(Self {
            id: line.id,
            topic: line.topic,
            kind: line.kind,
            ordering_key: line.ordering_key,
            payload: decode(&line.payload_base64)?,
            content_type: line.content_type,
            headers: line.headers,
            aggregate: line.aggregate,
            created_at: line.created_at,
            due_at: line.due_at,
            retry: line.retry,
            sequence: line.sequence,
            epoch: line.epoch,
        })
    }
}
