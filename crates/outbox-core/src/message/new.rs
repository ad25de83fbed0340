use bytes::Bytes;

use super::{Aggregate, Headers, Kind, Limits, MessageBody, RetryOverride};
use crate::error::{OutboxError, Result};
use crate::id::{Entropy, MessageId};
use crate::time::Timestamp;

/// The content type of [`NewMessage::json`].
pub const JSON: &str = "application/json";

/// A message to be appended.
///
/// Everything but the topic and the payload is optional. The id is made at append where none is
/// set; set one (see [`NewMessage::identify`]) to make repeating an append harmless, when its
/// outcome is unknown after a cancelled or failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "OwmIngestionTask")]
#[doc(alias = "add_event")]
pub struct NewMessage {
    /// The message's identity; made at append where `None`.
    pub id: Option<MessageId>,
    /// Where the message goes; at most [`Limits::name_bytes`] long, not empty.
    pub topic: String,
    /// What the message tells; `unspecified@1` where nobody said.
    pub kind: Kind,
    /// Messages with the same key are published in commit order; unordered where `None`.
    #[doc(alias = "event_key")]
    pub ordering_key: Option<String>,
    /// The body, at most [`Limits::payload_bytes`] long.
    #[doc(alias = "event_data")]
    pub payload: Bytes,
    /// What the payload is; `application/octet-stream` unless set, `application/json` is verified.
    pub content_type: String,
    /// Headers, the same in every attempt and at every destination.
    pub headers: Headers,
    /// The domain object that the message is about.
    #[doc(alias = "aggregate_id")]
    #[doc(alias = "aggregate_type")]
    pub aggregate: Option<Aggregate>,
    /// Not published before this moment; at once where `None`.
    pub due_at: Option<Timestamp>,
    /// A second append with the same key adds nothing and answers with the first message's id.
    pub idempotency_key: Option<String>,
    /// Retry settings of this message alone.
    pub retry: Option<RetryOverride>,
    verified: bool,
}

impl NewMessage {
    /// A message of raw bytes.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            id: None,
            topic: topic.into(),
            kind: Kind::new("unspecified"),
            ordering_key: None,
            payload: payload.into(),
            content_type: "application/octet-stream".to_owned(),
            headers: Headers::default(),
            aggregate: None,
            due_at: None,
            idempotency_key: None,
            retry: None,
            verified: false,
        }
    }

    /// A message that carries `body` as JSON, with the body's kind.
    ///
    /// # Errors
    /// [`OutboxError::Codec`] where `body` cannot be written as JSON.
    pub fn json<T: MessageBody>(topic: impl Into<String>, body: &T) -> Result<Self> {
        let payload = serde_json::to_vec(body)
            .map_err(|source| OutboxError::codec(format!("payload of kind {}", T::KIND), source))?;
        let mut message = Self::new(topic, payload);
        JSON.clone_into(&mut message.content_type);
        message.kind = Kind::of::<T>();
        message.verified = true;
        Ok(message)
    }

    /// Gives the message an id now, so that appending it again changes nothing.
    #[must_use]
    pub fn identify(mut self, now: Timestamp, entropy: &Entropy) -> Self {
        self.id.get_or_insert_with(|| MessageId::new(now, entropy));
        self
    }

    /// Sets the kind.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the ordering key.
    #[must_use]
    pub fn ordering_key(mut self, key: impl Into<String>) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// Says what the payload is.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = content_type.into();
        self.verified = false;
        self
    }

    /// Sets one header.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        self.headers.set(name, value);
        self
    }

    /// Names the domain object that the message is about.
    #[must_use]
    pub fn aggregate(mut self, type_name: impl Into<String>, id: impl Into<String>) -> Self {
        self.aggregate = Some(Aggregate {
            type_name: type_name.into(),
            id: id.into(),
            version: 0,
        });
        self
    }

    /// Delays the message until `due_at`.
    #[must_use]
    pub fn due_at(mut self, due_at: Timestamp) -> Self {
        self.due_at = Some(due_at);
        self
    }

    /// Sets the idempotency key.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Replaces parts of the retry policy for this message.
    #[must_use]
    pub fn retry(mut self, retry: RetryOverride) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Checks the message against `limits`, before any database is touched.
    ///
    /// # Errors
    /// [`OutboxError::Limit`] that names the first limit that is broken, [`OutboxError::Codec`] for
    /// a payload that is not the JSON which its content type says it is.
    pub fn validate(&self, limits: &Limits) -> Result<()> {
        limits.check(self)?;
        if self.content_type == JSON && !self.verified {
            serde_json::from_slice::<serde::de::IgnoredAny>(&self.payload).map_err(|source| {
                OutboxError::codec(format!("payload as {JSON} (kind {})", self.kind), source)
            })?;
        }
        Ok(())
    }
}
