//! Messages: what is appended ([`NewMessage`]) and what is told ([`Message`]).

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{OutboxError, Result};
use crate::id::{Entropy, MessageId};
use crate::lease::{Epoch, Sequence};
use crate::time::Timestamp;

/// The content type of [`NewMessage::json`].
pub const JSON: &str = "application/json";

/// A body with a stable name, so that messages can be told apart and routed.
///
/// ```
/// use outbox_core::message::{MessageBody, NewMessage};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct OrderPlaced { order: u64 }
/// impl MessageBody for OrderPlaced { const KIND: &'static str = "order.placed"; }
///
/// let message = NewMessage::json("orders", &OrderPlaced { order: 7 }).unwrap();
/// assert_eq!(message.kind.to_string(), "order.placed@1");
/// ```
#[doc(alias = "BaseTask")]
#[doc(alias = "Task")]
#[doc(alias = "Event")]
#[doc(alias = "DomainEvent")]
#[doc(alias = "event_type")]
pub trait MessageBody: Serialize + DeserializeOwned {
    /// The name of this type on the wire; never changed once messages of it are stored.
    const KIND: &'static str;
    /// The version of the type's shape; raised when old readers cannot read new messages.
    const VERSION: u32 = 1;
}

/// What type of thing a message tells: a name and the version of its shape.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Kind {
    /// The type's name, as `order.placed`; at most [`Limits::name_bytes`] long.
    pub name: String,
    /// The version of the type's shape; 1 by default.
    #[doc(alias = "event_version")]
    pub version: u32,
}

impl Kind {
    /// Version 1 of `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: 1,
        }
    }

    /// The kind of `T`.
    #[must_use]
    pub fn of<T: MessageBody>() -> Self {
        Self {
            name: T::KIND.to_owned(),
            version: T::VERSION,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// Named texts that travel with a message unchanged; names are unique, order is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[doc(alias = "metadata")]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Ties together all messages of one business operation.
    pub const CORRELATION_ID: &'static str = "correlation-id";
    /// The id of the message or command that caused this one.
    pub const CAUSATION_ID: &'static str = "causation-id";
    /// Whose data this is, in a system of several tenants.
    pub const TENANT_ID: &'static str = "tenant-id";
    /// W3C trace context: the parent span.
    pub const TRACEPARENT: &'static str = "traceparent";
    /// W3C trace context: vendor state.
    pub const TRACESTATE: &'static str = "tracestate";

    /// Sets header `name`, replacing an earlier value.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// The value of header `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// All headers, in the order in which they were first set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many headers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.set(name, value);
        }
        headers
    }
}

/// The domain object that a message is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregate {
    /// The type of the object, as `order`.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The identity of the object within its type.
    pub id: String,
    /// The object's version after the change that the message tells; 0 where it has none.
    #[serde(default)]
    pub version: u64,
}

/// Retry settings of one message that replace the policy's own; absent fields leave it alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryOverride {
    /// How many attempts before quarantine; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// The backoff's base delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Duration>,
    /// The backoff's greatest delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<Duration>,
}

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
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
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

/// The sizes that are accepted at append, checked before the database is touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest payload in bytes; 1 MiB by default, at least 1.
    pub payload_bytes: usize,
    /// The greatest number of headers; 64 by default.
    pub headers: usize,
    /// The longest sum of all header names and values in bytes; 16 KiB by default.
    pub header_bytes: usize,
    /// The longest topic, kind, content type, ordering key, idempotency key, aggregate type and
    /// aggregate id in bytes, each for itself; 255 by default.
    pub name_bytes: usize,
    /// The most messages in one append; 1,000,000 by default.
    pub batch: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes: 1 << 20,
            headers: 64,
            header_bytes: 16 << 10,
            name_bytes: 255,
            batch: 1_000_000,
        }
    }
}

impl Limits {
    /// Checks a whole batch: its length, then each message in it.
    ///
    /// # Errors
    /// As [`NewMessage::validate`]; a batch with one bad message is refused as a whole.
    pub fn check_batch(&self, messages: &[NewMessage]) -> Result<()> {
        at_most("messages in a batch", messages.len(), self.batch)?;
        messages
            .iter()
            .try_for_each(|message| message.validate(self))
    }

    fn check(&self, message: &NewMessage) -> Result<()> {
        at_most("payload bytes", message.payload.len(), self.payload_bytes)?;
        at_most("headers", message.headers.len(), self.headers)?;
        let header_bytes = message.headers.iter().map(|(n, v)| n.len() + v.len()).sum();
        at_most("header bytes", header_bytes, self.header_bytes)?;
        let aggregate = message.aggregate.as_ref();
        let names = [
            ("topic bytes", Some(message.topic.as_str())),
            ("kind bytes", Some(message.kind.name.as_str())),
            ("content type bytes", Some(message.content_type.as_str())),
            ("ordering key bytes", message.ordering_key.as_deref()),
            ("idempotency key bytes", message.idempotency_key.as_deref()),
            (
                "aggregate type bytes",
                aggregate.map(|a| a.type_name.as_str()),
            ),
            ("aggregate id bytes", aggregate.map(|a| a.id.as_str())),
        ];
        for (what, name) in names {
            at_most(what, name.map_or(0, str::len), self.name_bytes)?;
        }
        if message.topic.is_empty() {
            return Err(OutboxError::codec("topic", "a message needs a topic"));
        }
        Ok(())
    }
}

fn at_most(what: &str, actual: usize, limit: usize) -> Result<()> {
    if actual <= limit {
        return Ok(());
    }
    Err(OutboxError::Limit {
        what: what.to_owned(),
        actual: actual as u64,
        limit: limit as u64,
    })
}

/// A message as it is stored and told: the same in every attempt, at every destination.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "OutboxEntry")]
#[doc(alias = "EventOutbox")]
#[doc(alias = "envelope")]
pub struct Message {
    /// The message's identity: what consumers deduplicate on.
    pub id: MessageId,
    /// Where the message goes.
    pub topic: String,
    /// What the message tells.
    pub kind: Kind,
    /// Messages with the same key are published in commit order.
    pub ordering_key: Option<String>,
    /// The body.
    pub payload: Bytes,
    /// What the payload is.
    pub content_type: String,
    /// Headers, as set at append.
    pub headers: Headers,
    /// The domain object that the message is about.
    pub aggregate: Option<Aggregate>,
    /// When the message was appended.
    pub created_at: Timestamp,
    /// When the message was to be published first.
    pub due_at: Timestamp,
    /// Retry settings of this message alone.
    pub retry: Option<RetryOverride>,
    /// The message's place in its outbox, in commit order; a sink may resume or refuse by it.
    pub sequence: Sequence,
    /// The fencing epoch of the relay that sends it; a sink refuses one lower than it has seen.
    pub epoch: Epoch,
}

impl Message {
    /// The message that `new` becomes when it is appended as `id` at `now`.
    #[must_use]
    pub fn appended(new: &NewMessage, id: MessageId, now: Timestamp) -> Self {
        Self {
            id,
            topic: new.topic.clone(),
            kind: new.kind.clone(),
            ordering_key: new.ordering_key.clone(),
            payload: new.payload.clone(),
            content_type: new.content_type.clone(),
            headers: new.headers.clone(),
            aggregate: new.aggregate.clone(),
            created_at: now,
            due_at: new.due_at.unwrap_or(now),
            retry: new.retry.clone(),
            sequence: Sequence::default(),
            epoch: Epoch::default(),
        }
    }

    /// The payload read as the JSON of `T`.
    ///
    /// # Errors
    /// [`OutboxError::Codec`] where the kind is not `T`'s or the payload is not its JSON.
    pub fn json<T: MessageBody>(&self) -> Result<T> {
        if self.kind.name != T::KIND {
            let found = format!("kind {} where {} was expected", self.kind, T::KIND);
            return Err(OutboxError::codec(format!("message {}", self.id), found));
        }
        serde_json::from_slice(&self.payload)
            .map_err(|e| OutboxError::codec(format!("payload of {} as {}", self.id, T::KIND), e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_of(message: &NewMessage, limits: &Limits) -> String {
        match message.validate(limits).unwrap_err() {
            OutboxError::Limit {
                what,
                actual,
                limit,
            } => {
                assert!(actual > limit);
                what
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn every_limit_names_itself() {
        let limits = Limits {
            payload_bytes: 4,
            headers: 1,
            header_bytes: 8,
            ..Limits::default()
        };
        let ok = NewMessage::new("t", "1234");
        assert!(ok.validate(&limits).is_ok());
        assert_eq!(
            limit_of(&NewMessage::new("t", "12345"), &limits),
            "payload bytes"
        );
        assert_eq!(
            limit_of(&ok.clone().header("a", "12345678"), &limits),
            "header bytes"
        );
        assert_eq!(
            limit_of(&ok.clone().header("a", "").header("b", ""), &limits),
            "headers"
        );
        assert_eq!(
            limit_of(&ok.clone().ordering_key("k".repeat(256)), &limits),
            "ordering key bytes"
        );
        assert_eq!(
            limit_of(&NewMessage::new("t".repeat(256), ""), &limits),
            "topic bytes"
        );
    }

    #[test]
    fn a_payload_must_be_what_its_content_type_says() {
        let broken = NewMessage::new("t", "{\"a\":").content_type(JSON);
        assert!(matches!(
            broken.validate(&Limits::default()),
            Err(OutboxError::Codec { .. })
        ));
        let sound = NewMessage::new("t", "{\"a\":1}").content_type(JSON);
        assert!(sound.validate(&Limits::default()).is_ok());
    }

    #[test]
    fn a_message_needs_a_topic() {
        assert!(
            NewMessage::new("", "x")
                .validate(&Limits::default())
                .is_err()
        );
    }

    #[test]
    fn setting_a_header_twice_keeps_the_last_value() {
        let headers: Headers = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("a", "3"), ("b", "2")]);
    }
}
