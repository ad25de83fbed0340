use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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
    /// The type's name, as `order.placed`; at most [`super::Limits::name_bytes`] long.
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
