//! What the indexes have of a letter: all that filters ask for, so that no payload is read to find it.

use bytes::Bytes;
use outbox_core::error::OutboxError;
use outbox_core::id::MessageId;
use outbox_core::time::Timestamp;
use outbox_dlq::{DeadLetter, Filter, Fingerprint, LetterId, Origin, RedriveCursor};
use serde::{Deserialize, Serialize};

use super::letter::Stored;
use super::number::{entry_id, position};
use crate::error::Fault;
use crate::link::Arg;

/// An index: each of its lines begins with what it is sorted by, and goes on with the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Index {
    /// By number.
    Letters,
    /// By the place in what they left.
    Order,
}

/// What is known of a letter without reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Label {
    #[serde(rename = "n")]
    number: u64,
    #[serde(rename = "o")]
    pub(super) origin: Origin,
    #[serde(rename = "s")]
    position: u64,
    #[serde(rename = "q")]
    pub(super) quarantined_at: Timestamp,
    #[serde(rename = "f")]
    pub(super) fingerprint: Fingerprint,
    #[serde(rename = "r")]
    pub(super) redrives: u32,
    #[serde(rename = "e")]
    pub(super) error_kind: String,
    #[serde(rename = "i")]
    pub(super) imported: bool,
    #[serde(rename = "m")]
    about: About,
}

/// What is in a letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum About {
    /// A message: its id, topic, and the name of its kind.
    #[serde(rename = "m")]
    Message(MessageId, String, String),
    /// What cannot be read: its place.
    #[serde(rename = "u")]
    Unreadable(String),
}

impl Label {
    pub(super) fn of(Stored { letter, imported }: &Stored) -> Self {
        Self {
            number: letter.id.0,
            origin: letter.origin.clone(),
            position: position(&letter.place),
            quarantined_at: letter.quarantined_at,
            fingerprint: letter.fingerprint,
            redrives: letter.redrives,
            error_kind: letter.kind.clone(),
            imported: *imported,
            about: match &letter.message {
                Some(message) => {
                    About::Message(message.id, message.topic.clone(), message.kind.name.clone())
                }
                None => About::Unreadable(letter.place.clone()),
            },
        }
    }

    pub(super) fn id(&self) -> LetterId {
        LetterId(self.number)
    }

    /// The message's topic and the name of its kind, where it can be read.
    pub(super) fn topic_and_kind(&self) -> Option<(&str, &str)> {
        match &self.about {
            About::Message(_, topic, kind) => Some((topic, kind)),
            About::Unreadable(_) => None,
        }
    }

    pub(super) fn cursor(&self) -> RedriveCursor {
        RedriveCursor {
            origin: self.origin.clone(),
            position: self.position,
            id: self.id(),
        }
    }

    /// What its line in `index` begins with.
    pub(super) fn key(&self, index: Index) -> Vec<u8> {
        match index {
            Index::Letters => letter_key(self.id()),
            Index::Order => order_key(&self.cursor()),
        }
    }

    /// The label in a line of an index.
    pub(super) fn read(line: &[u8], index: Index) -> Result<Self, Fault> {
        let key = match index {
            Index::Letters => LETTER_KEY,
            // No label has a zero byte in it.
            Index::Order => line.iter().rposition(|byte| *byte == 0).unwrap_or(0) + ORDER_KEY,
        };
        let label = serde_json::from_slice(line.get(key..).unwrap_or_default());
        label.map_err(|error| OutboxError::codec("a label of dead letters", error).into())
    }

    /// How scripts are told what to write, or to forget: its lines in both indexes, and its name.
    pub(super) fn lines_and_name(&self) -> Result<[Arg; 3], Fault> {
        let label = serde_json::to_vec(self)
            .map_err(|error| OutboxError::codec("a label of dead letters", error))?;
        let line = |index| Arg::Bytes([self.key(index), label.clone()].concat().into());
        let name = match &self.about {
            About::Message(id, ..) => name_of_message(*id, &self.origin),
            About::Unreadable(place) => name_of_place(place, &self.origin, self.quarantined_at),
        };
        Ok([line(Index::Letters), line(Index::Order), Arg::Bytes(name)])
    }

    /// Whether `filter` means it, its ids aside.
    pub(super) fn is_meant(&self, filter: &Filter) -> bool {
        let same = |wanted: &Option<String>, found: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == found
        };
        let (topic, kind) = self.topic_and_kind().unzip();
        let at = self.quarantined_at;
        filter.up_to.is_none_or(|last| self.id() <= last)
            && filter
                .origin
                .as_ref()
                .is_none_or(|wanted| *wanted == self.origin)
            && same(&filter.topic, topic)
            && same(&filter.kind, kind)
            && same(&filter.error_kind, Some(&self.error_kind))
            && filter
                .fingerprint
                .is_none_or(|wanted| wanted == self.fingerprint)
            && filter.since.is_none_or(|since| at >= since)
            && filter.before.is_none_or(|before| at < before)
    }
}

/// How long what a line in [`Index::Letters`] begins with is.
const LETTER_KEY: usize = 21;

/// How long what a line in [`Index::Order`] begins with is, from the zero byte behind the origin on.
const ORDER_KEY: usize = 1 + 20 + LETTER_KEY;

/// What the line of a letter in [`Index::Letters`] begins with.
pub(super) fn letter_key(id: LetterId) -> Vec<u8> {
    let entry = entry_id(id);
    format!("{:013}-{:07}", entry.major, entry.minor).into_bytes()
}

/// What the line of a letter in [`Index::Order`] begins with.
pub(super) fn order_key(cursor: &RedriveCursor) -> Vec<u8> {
    let RedriveCursor {
        origin,
        position,
        id,
    } = cursor;
    let mut key = format!("{origin}\0{position:020}").into_bytes();
    key.extend(letter_key(*id));
    key
}

/// What tells a letter from all others, for one that is read in: its message and origin, or, where that
/// cannot be read, its place and moment.
pub(super) fn name(letter: &DeadLetter) -> Bytes {
    match &letter.message {
        Some(message) => name_of_message(message.id, &letter.origin),
        None => name_of_place(&letter.place, &letter.origin, letter.quarantined_at),
    }
}

fn name_of_message(id: MessageId, origin: &Origin) -> Bytes {
    let origin = origin.to_string();
    [b"m", &id.as_bytes()[..], origin.as_bytes()]
        .concat()
        .into()
}

fn name_of_place(place: &str, origin: &Origin, at: Timestamp) -> Bytes {
    format!("p{origin}\0{place}\0{}", at.as_micros()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(number: u64, position: u64) -> Label {
        Label {
            number,
            origin: Origin::Queue("a\0[b".to_owned()),
            position,
            quarantined_at: Timestamp::from_millis(5),
            fingerprint: Fingerprint::of("failed", "k@1", "no"),
            redrives: 2,
            error_kind: "failed".to_owned(),
            imported: false,
            about: About::Unreadable("row \0 9".to_owned()),
        }
    }

    #[test]
    fn a_label_is_read_from_its_line_in_either_index() {
        let label = label(u64::MAX, u64::MAX);
        let [letters, order, _] = label.lines_and_name().unwrap();
        for (line, index) in [(letters, Index::Letters), (order, Index::Order)] {
            let line = line.as_bytes().unwrap();
            assert!(line.starts_with(&label.key(index)));
            assert_eq!(Label::read(line, index).unwrap(), label);
        }
    }

    #[test]
    fn lines_are_sorted_as_numbers_and_places_are() {
        let keys = |index| {
            let labels = [(1, 900), (1 << 22, 80), (u64::MAX, 7)];
            labels.map(|(number, position)| label(number, position).key(index))
        };
        assert!(keys(Index::Letters).is_sorted());
        assert!(keys(Index::Order).iter().rev().is_sorted());
    }
}
