use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use outbox_core::message::Message;
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;

use crate::fingerprint::Fingerprint;
use crate::origin::Origin;

/// The number of a dead letter in its quarantine: it grows, and is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(pub u64);

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for LetterId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// A message at rest, with all that is known of how it got there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "dead letter")]
pub struct DeadLetter {
    /// Its number in quarantine.
    pub id: LetterId,
    /// What it left.
    pub origin: Origin,
    /// Where it stood there: the row's or entry's own name.
    pub place: String,
    /// The message as it was appended; `None` where it cannot be read.
    pub message: Option<Message>,
    /// The bytes that should have been a message, where it cannot be read.
    pub body: Option<Bytes>,
    /// How many attempts were made, since the last redrive that reset them.
    pub attempts: u32,
    /// How often it was redriven before.
    pub redrives: u32,
    /// The failed attempts of all its lives, oldest first, at most
    /// [`outbox_core::status::HISTORY_LENGTH`].
    pub history: Vec<AttemptRecord>,
    /// When the first attempt began that failed.
    pub first_failed_at: Timestamp,
    /// When the last attempt began that failed.
    pub last_failed_at: Timestamp,
    /// The last failure's kind; `unreadable` where it could not be read.
    pub kind: String,
    /// The last failure's text.
    pub error: String,
    /// When it came to rest.
    pub quarantined_at: Timestamp,
    /// What groups it with like failures.
    pub fingerprint: Fingerprint,
    /// What is wrong with the record of it in quarantine itself; `None` where it is whole.
    pub problem: Option<String>,
}

impl DeadLetter {
    /// The fingerprint that a failure of this kind and text has, of this message.
    #[must_use]
    pub fn fingerprint_of(message: Option<&Message>, kind: &str, error: &str) -> Fingerprint {
        let message_kind = message.map(|message| message.kind.to_string());
        Fingerprint::of(kind, message_kind.as_deref().unwrap_or_default(), error)
    }
}

/// Which dead letters are meant: those that meet every condition that is set. None is set by default,
/// and all are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these; any where empty. At most 1,000.
    pub ids: Vec<LetterId>,
    /// Not numbered after this one: what came to rest later is not meant.
    pub up_to: Option<LetterId>,
    /// What they left.
    pub origin: Option<Origin>,
    /// Their topic.
    pub topic: Option<String>,
    /// The name of the message's kind, as `order.placed`.
    pub kind: Option<String>,
    /// The last failure's kind, as `refused`.
    pub error_kind: Option<String>,
    /// What groups them.
    pub fingerprint: Option<Fingerprint>,
    /// Not in quarantine before this moment.
    pub since: Option<Timestamp>,
    /// In quarantine before this moment.
    pub before: Option<Timestamp>,
}

impl Filter {
    /// The greatest number of [`Filter::ids`].
    pub const MOST_IDS: usize = 1_000;

    /// Only this one.
    #[must_use]
    pub fn one(id: LetterId) -> Self {
        Self {
            ids: vec![id],
            ..Self::default()
        }
    }

    /// All that failed alike.
    #[must_use]
    pub fn alike(fingerprint: Fingerprint) -> Self {
        Self {
            fingerprint: Some(fingerprint),
            ..Self::default()
        }
    }

    /// All that left this.
    #[must_use]
    pub fn from_origin(origin: Origin) -> Self {
        Self {
            origin: Some(origin),
            ..Self::default()
        }
    }

    /// Whether `letter` is meant.
    #[must_use]
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        let message = letter.message.as_ref();
        let same = |wanted: &Option<String>, found: Option<&str>| {
            wanted.is_none() || wanted.as_deref() == found
        };
        (self.ids.is_empty() || self.ids.contains(&letter.id))
            && self.up_to.is_none_or(|last| letter.id <= last)
            && self
                .origin
                .as_ref()
                .is_none_or(|origin| *origin == letter.origin)
            && same(&self.topic, message.map(|message| message.topic.as_str()))
            && same(
                &self.kind,
                message.map(|message| message.kind.name.as_str()),
            )
            && same(&self.error_kind, Some(&letter.kind))
            && self
                .fingerprint
                .is_none_or(|wanted| wanted == letter.fingerprint)
            && self
                .since
                .is_none_or(|since| letter.quarantined_at >= since)
            && self
                .before
                .is_none_or(|before| letter.quarantined_at < before)
    }
}

/// What was set, for the audit: `all`, or the conditions.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = match &self.ids[..] {
            [] => None,
            [id] => Some(id.to_string()),
            ids => Some(format!("{} of them", ids.len())),
        };
        let parts = [
            ("id", ids),
            ("up to", self.up_to.map(|last| last.to_string())),
            ("origin", self.origin.as_ref().map(ToString::to_string)),
            ("topic", self.topic.clone()),
            ("kind", self.kind.clone()),
            ("error kind", self.error_kind.clone()),
            (
                "fingerprint",
                self.fingerprint.map(|print| print.to_string()),
            ),
            ("since", self.since.map(|moment| moment.to_string())),
            ("before", self.before.map(|moment| moment.to_string())),
        ];
        let set = parts
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let texts: Vec<_> = set.map(|(name, value)| format!("{name} {value}")).collect();
        if texts.is_empty() {
            return f.write_str("all");
        }
        f.write_str(&texts.join(", "))
    }
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Begin behind this one; at the first one where `None`.
    pub after: Option<LetterId>,
    /// The most dead letters to answer; at least 1.
    pub max: usize,
}

impl Page {
    /// The first `max`.
    #[must_use]
    pub fn first(max: usize) -> Self {
        Self { after: None, max }
    }
}

/// One page of dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The dead letters, in the order of their numbers; fewer than asked for where they are large.
    pub letters: Vec<DeadLetter>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<LetterId>,
}

/// Dead letters that failed alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they share.
    pub fingerprint: Fingerprint,
    /// How many there are.
    pub letters: u64,
    /// The most that one of them was redriven.
    pub redrives: u32,
    /// The last failure's kind.
    pub error_kind: String,
    /// The name of the messages' kind; `None` where they cannot be read.
    pub kind: Option<String>,
    /// The last failure's text, of one of them.
    pub error: String,
    /// When the first of them came to rest.
    pub first: Timestamp,
    /// When the last of them came to rest.
    pub last: Timestamp,
}

/// What rests in quarantine, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub total: u64,
    /// Those whose message cannot be read.
    pub unreadable: u64,
    /// Those that were redriven before, and came back.
    pub came_back: u64,
    /// When the first of them came to rest.
    pub oldest: Option<Timestamp>,
    /// By origin.
    pub origins: Vec<(Origin, u64)>,
    /// By topic, the greatest first.
    pub topics: Vec<(String, u64)>,
    /// By the name of the message's kind, the greatest first.
    pub kinds: Vec<(String, u64)>,
    /// By fingerprint, the greatest first.
    pub groups: Vec<Group>,
}
