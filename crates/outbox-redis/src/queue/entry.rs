//! How an entry of the stream is read: what each of its fields says, and what is wrong with it.
//!
//! `m` is the message's frame. What came back from a failed attempt or a delay has `t`, when it was
//! enqueued first, `a`, its failed attempts, `f`, when the first of them began, and `h`, the last of
//! them, each behind its length; `k`, how often it was taken over before it was delayed; with
//! several groups `g`, which of them it came back for; and what was redriven `r`, how often, and `o`,
//! its first place.
//!
//! In quarantine it has besides `o`, its place in the queue, `l`, when it failed last, and what could
//! not be read `p`, why, and `raw`, all of its fields. What was counted outside has its last failure's
//! kind and text as `x` and `p`. What was read in from elsewhere has `i`, the origin in which `o` is a
//! place, and `q`, when it came to rest.

use bytes::{Buf, Bytes};
use outbox_core::delivery::{Delivery, Quarantined, Unreadable};
use outbox_core::lease::{EntryId, Receipt};
use outbox_core::message::Message;
use outbox_core::packed::{Damage, frame};
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;

use crate::error::Fault;
use crate::link::Reply;

/// An entry as it was read, whatever is in it.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its id as the server writes it.
    pub(crate) text: Bytes,
    pub(crate) id: EntryId,
    /// How often it was taken over since it came into the stream.
    pub(super) takeovers: u32,
    /// Each name, and behind it its value: texts.
    fields: Vec<Reply>,
}

/// Why an entry is none of ours, or is no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the entry has no field `{0}`")]
    Missing(&'static str),
    #[error("the field `{0}` is no number")]
    Number(&'static str),
    #[error("a failed attempt cannot be read: {0}")]
    Failure(#[from] serde_json::Error),
    #[error("the history of failed attempts is cut off")]
    History,
    #[error("the message cannot be read: {0}")]
    Message(#[from] Damage),
}

impl Entry {
    /// The entries in the list `reply`; those without fields were deleted, and are left out.
    pub(crate) fn list(reply: Reply) -> Result<Vec<Self>, Fault> {
        let pieces = reply.list()?;
        let mut entries = Vec::with_capacity(pieces.len());
        for piece in pieces.filter(|piece| !piece.is_null()) {
            entries.push(Self::read(piece)?);
        }
        Ok(entries)
    }

    fn read(reply: Reply) -> Result<Self, Fault> {
        let mut parts = reply.list()?;
        let text = parts.next().ok_or_else(not_an_entry)?.bytes()?;
        let id = parse_id(&text).ok_or_else(not_an_entry)?;
        let fields: Vec<_> = parts.next().unwrap_or(Reply::NOTHING).list()?.collect();
        fields
            .iter()
            .try_for_each(|field| field.as_bytes().map(drop))?;
        Ok(Self {
            text,
            id,
            takeovers: 0,
            fields,
        })
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Bytes> {
        let pairs = self.fields.chunks_exact(2);
        let mut texts =
            pairs.filter_map(|pair| pair[0].as_bytes().ok().zip(pair[1].as_bytes().ok()));
        texts.find(|(of, _)| *of == name).map(|(_, value)| value)
    }

    fn number(&self, name: &'static str) -> Result<Option<i64>, Malformed> {
        let text = self.field(name).map(|value| std::str::from_utf8(value));
        let number = text.map(|text| text.ok().and_then(|text| text.parse().ok()));
        number
            .map(|number| number.ok_or(Malformed::Number(name)))
            .transpose()
    }

    /// Whether it came back for another group.
    pub(super) fn is_for_another(&self, group: &str) -> bool {
        self.field("g").is_some_and(|of| *of != group)
    }

    pub(crate) fn message(&self) -> Result<Message, Malformed> {
        let packed = self.field("m").ok_or(Malformed::Missing("m"))?;
        Ok(frame::read(packed)?)
    }

    fn count(&self, name: &'static str) -> Result<u32, Malformed> {
        let count = self.number(name)?.unwrap_or(0);
        u32::try_from(count).map_err(|_| Malformed::Number(name))
    }

    pub(crate) fn history(&self) -> Result<Vec<AttemptRecord>, Malformed> {
        let mut rest = self.field("h").cloned().unwrap_or_default();
        let mut history = Vec::new();
        while !rest.is_empty() {
            let length = rest.try_get_u32_le().map_err(|_| Malformed::History)? as usize;
            if length > rest.len() {
                return Err(Malformed::History);
            }
            history.push(serde_json::from_slice(&rest.split_to(length))?);
        }
        Ok(history)
    }

    fn enqueued_at(&self) -> Result<Timestamp, Malformed> {
        let noted = self.number("t")?;
        let named = i64::try_from(self.id.major).unwrap_or(i64::MAX);
        Ok(noted.map_or(Timestamp::from_millis(named), Timestamp::from_micros))
    }

    /// What a worker is handed with `receipt`.
    pub(super) fn delivery(&self, receipt: Receipt) -> Result<Delivery, Malformed> {
        let fresh = Delivery {
            message: self.message()?.into(),
            receipt,
            attempt: 1,
            takeovers: self.takeovers,
            last_failure: None,
            enqueued_at: self.enqueued_at()?,
        };
        // Most have a message alone.
        if self.fields.len() == 2 {
            return Ok(fresh);
        }
        Ok(Delivery {
            attempt: self.count("a")?.saturating_add(1),
            takeovers: self.count("k")?.saturating_add(self.takeovers),
            last_failure: self.history()?.pop().map(Box::new),
            ..fresh
        })
    }

    /// What is told of an entry that cannot be read.
    pub(super) fn unreadable(&self, problem: &Malformed) -> Unreadable {
        Unreadable {
            place: self.id.to_string(),
            problem: problem.to_string(),
        }
    }

    /// The text of a field, whatever is in it.
    pub(crate) fn text_of(&self, name: &str) -> Option<String> {
        let field = self.field(name)?;
        Some(String::from_utf8_lossy(field).into_owned())
    }

    /// The moment in a field, where it is one.
    pub(crate) fn moment_of(&self, name: &'static str) -> Option<Timestamp> {
        let micros = self.number(name).ok().flatten();
        micros.map(Timestamp::from_micros)
    }

    /// The record in an entry of the quarantine.
    pub(crate) fn quarantined(&self) -> Quarantined {
        let history = self.history().unwrap_or_default();
        let last = history.last();
        let last_failed_at = self.moment_of("l").or(last.map(|last| last.at));
        let last_failed_at = last_failed_at.unwrap_or_default();
        let problem = self.text_of("p");
        let kind = match (self.text_of("x"), &problem, last) {
            (Some(kind), _, _) => kind,
            (None, None, Some(last)) => last.kind.clone(),
            _ => "unreadable".to_owned(),
        };
        let error = problem.or(last.map(|last| last.error.clone()));
        Quarantined {
            place: self.text_of("o").unwrap_or_else(|| self.id.to_string()),
            message: self.message().ok(),
            attempts: self.count("a").unwrap_or(0),
            first_failed_at: self.moment_of("f").unwrap_or(last_failed_at),
            last_failed_at,
            kind,
            error: error.unwrap_or_default(),
            redrives: self.count("r").unwrap_or(0),
            history,
        }
    }
}

/// An entry's id out of its text, as `1526919030474-55`.
pub(super) fn parse_id(text: &[u8]) -> Option<EntryId> {
    let (major, minor) = std::str::from_utf8(text).ok()?.split_once('-')?;
    Some(EntryId {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}

fn not_an_entry() -> Fault {
    Fault::Reply {
        wanted: "an entry",
        found: "something else".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use outbox_core::id::{MessageId, WorkerId};
    use outbox_core::message::NewMessage;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 14] = [
        "m", "t", "a", "f", "h", "k", "g", "r", "o", "l", "p", "x", "q", "raw",
    ];

    fn packed() -> Vec<u8> {
        let new = NewMessage::new("topic", "payload")
            .ordering_key("key")
            .header("a", "b");
        let message = Message::appended(&new, MessageId::from_bytes([7; 16]), Timestamp::EPOCH);
        let mut out = Vec::new();
        frame::write(&message, &mut out);
        out
    }

    fn failures() -> Vec<u8> {
        let record = AttemptRecord {
            at: Timestamp::EPOCH,
            duration: std::time::Duration::from_millis(1),
            kind: "failed".to_owned(),
            error: "it did not work".to_owned(),
        };
        let json = serde_json::to_vec(&record).unwrap();
        let mut out = (json.len() as u32).to_le_bytes().to_vec();
        out.extend(json);
        out
    }

    /// Bytes of nobody, or of ours, with some of them replaced.
    fn value() -> impl Strategy<Value = Vec<u8>> {
        let ours = prop::sample::select(vec![packed(), failures(), b"17".to_vec(), b"-1".to_vec()]);
        let slips = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
        let spoiled = (ours, slips).prop_map(|(mut bytes, slips)| {
            for (place, byte) in slips {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes
        });
        prop_oneof![3 => spoiled, 1 => vec(any::<u8>(), 0..60)]
    }

    fn entry(fields: Vec<(&'static str, Vec<u8>)>) -> Entry {
        let fields = fields.into_iter().flat_map(|(name, value)| {
            let name = Bytes::from_static(name.as_bytes());
            [name, Bytes::from(value)].map(Reply::from)
        });
        Entry {
            text: Bytes::from_static(b"5-1"),
            id: EntryId { major: 5, minor: 1 },
            takeovers: u32::MAX,
            fields: fields.collect(),
        }
    }

    const fn receipt() -> Receipt {
        Receipt {
            entry: EntryId { major: 5, minor: 1 },
            owner: WorkerId::from_bytes([1; 16]),
            token: 1,
        }
    }

    #[test]
    fn what_is_ours_is_read() {
        let entry = entry(vec![
            ("m", packed()),
            ("h", failures()),
            ("a", b"2".to_vec()),
        ]);
        let delivery = entry.delivery(receipt()).unwrap();
        assert_eq!((delivery.attempt, delivery.takeovers), (3, u32::MAX));
        assert_eq!(delivery.last_failure.unwrap().kind, "failed");
        let message = entry.quarantined().message.map(Arc::new);
        assert_eq!(message, Some(delivery.message));
    }

    proptest! {
        #[test]
        fn whatever_the_fields_of_an_entry_are_it_is_read_or_told(
            fields in vec((prop::sample::select(NAMES.to_vec()), value()), 0..8)
        ) {
            let entry = entry(fields);
            if let Err(problem) = entry.delivery(receipt()) {
                prop_assert!(!entry.unreadable(&problem).problem.is_empty());
            }
            let _ = (entry.quarantined(), entry.is_for_another("group"));
        }

        #[test]
        fn any_text_is_an_id_or_none(text in vec(any::<u8>(), 0..30), major: u64, minor: u64) {
            let _ = parse_id(&text);
            let id = parse_id(format!("{major}-{minor}").as_bytes());
            prop_assert_eq!(id, Some(EntryId { major, minor }));
        }
    }
}
