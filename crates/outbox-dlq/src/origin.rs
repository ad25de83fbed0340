use std::fmt;
use std::str::FromStr;

use outbox_core::id::MessageId;
use serde::{Deserialize, Serialize};

/// What a queue's origin starts with.
const QUEUE: &str = "queue:";

/// What a dead letter left: an outbox, or a queue; written as `outbox` or `queue:orders`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Origin {
    /// It could not be published.
    Outbox,
    /// It could not be handled; with the queue's name.
    Queue(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outbox => f.write_str("outbox"),
            Self::Queue(name) => write!(f, "{QUEUE}{name}"),
        }
    }
}

/// A text that is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no origin: `outbox`, or `queue:` and a name")]
pub struct InvalidOrigin(String);

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        match text.strip_prefix(QUEUE) {
            Some(name) => Ok(Self::Queue(name.to_owned())),
            None if text == "outbox" => Ok(Self::Outbox),
            None => Err(InvalidOrigin(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Origin {
    type Error = InvalidOrigin;

    fn try_from(text: String) -> Result<Self, InvalidOrigin> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

/// A message at one place: what failures are counted of. The same message may fail to be published,
/// and later, in a queue, to be handled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// Where it failed.
    pub origin: Origin,
    /// Its id.
    #[doc(alias = "EventId")]
    pub id: MessageId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_survives_its_text() {
        for text in ["outbox", "queue:orders", "queue:", "queue:a:b"] {
            assert_eq!(text.parse::<Origin>().unwrap().to_string(), text);
        }
        assert!("orders".parse::<Origin>().is_err());
    }
}
