use super::NewMessage;
use crate::error::{OutboxError, Result};

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

    pub(super) fn check(&self, message: &NewMessage) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::JSON;

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
}
