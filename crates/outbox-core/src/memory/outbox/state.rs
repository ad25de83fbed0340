use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::delivery::Quarantined;
use crate::id::{MessageId, WorkerId};
use crate::lease::{Epoch, Sequence};
use crate::message::Message;
use crate::status::{AttemptRecord, MessageStatus};
use crate::time::Timestamp;

/// All that an outbox holds.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Unsent messages.
    pub(super) rows: BTreeMap<Sequence, Row>,
    /// Published messages that are kept.
    pub(super) published: BTreeMap<Sequence, Kept>,
    pub(super) quarantined: Vec<Quarantined>,
    /// Ids of the unsent and the kept.
    pub(super) ids: HashSet<MessageId>,
    /// Idempotency keys, which outlive their messages: the first message's id, and since when.
    pub(super) keys: BTreeMap<String, (MessageId, Timestamp)>,
    pub(super) parked_keys: BTreeSet<String>,
    pub(super) last_sequence: u64,
    pub(super) lease: Lease,
}

/// An unsent message and what happened to it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) message: Message,
    /// Not before this moment.
    pub(super) waits_until: Option<Timestamp>,
    /// Whether it keeps its key's later messages back while it is not claimable.
    pub(super) blocks_key: bool,
    /// The lease that it was last claimed under, until it is settled.
    pub(super) claimed: Option<Epoch>,
    pub(super) failures: u32,
    pub(super) first_failed_at: Option<Timestamp>,
    pub(super) history: Vec<AttemptRecord>,
    pub(super) unreadable: bool,
    /// How often it was sent back from quarantine.
    pub(super) redrives: u32,
}

impl Row {
    /// A message of which nobody has tried anything.
    pub(super) fn untried(message: Message, waits_until: Option<Timestamp>) -> Self {
        Self {
            message,
            waits_until,
            blocks_key: true,
            claimed: None,
            failures: 0,
            first_failed_at: None,
            history: Vec::new(),
            unreadable: false,
            redrives: 0,
        }
    }
}

/// A published message that is kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) message: Message,
    pub(super) settled_at: Timestamp,
}

/// The right to claim, which one owner has at a time.
#[derive(Debug, Default)]
pub(super) struct Lease {
    pub(super) owner: Option<WorkerId>,
    pub(super) epoch: Epoch,
    pub(super) expires_at: Timestamp,
}

impl Lease {
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.owner.is_some() && self.expires_at > now
    }
}

/// Walks over unsent rows in order and says where each stands.
pub(super) struct Walk<'a> {
    now: Timestamp,
    paused_topics: &'a [String],
    /// Keys whose further messages are parked.
    blocked: HashSet<&'a str>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(state: &'a State, now: Timestamp, paused_topics: &'a [String]) -> Self {
        Self {
            now,
            paused_topics,
            blocked: state.parked_keys.iter().map(String::as_str).collect(),
        }
    }

    /// Where the next row stands, which is not in flight.
    pub(super) fn standing(&mut self, row: &'a Row) -> MessageStatus {
        let key = row.message.ordering_key.as_deref();
        let status = if key.is_some_and(|key| self.blocked.contains(key)) {
            MessageStatus::Parked
        } else if row.waits_until.is_some_and(|until| until > self.now) || self.is_paused(row) {
            MessageStatus::Waiting
        } else {
            return MessageStatus::Ready;
        };
        if let Some(key) = key.filter(|_| row.blocks_key) {
            self.blocked.insert(key);
        }
        status
    }

    pub(super) fn is_paused(&self, row: &Row) -> bool {
        self.paused_topics.contains(&row.message.topic)
    }
}

impl State {
    /// Whether `row` is claimed under the present lease.
    pub(super) fn is_in_flight(&self, row: &Row) -> bool {
        row.claimed == Some(self.lease.epoch)
    }

    /// Where every message stands at `now`, in commit order; the published ones first.
    pub(super) fn statuses(&self, now: Timestamp) -> Vec<(MessageId, MessageStatus)> {
        let mut walk = Walk::new(self, now, &[]);
        let kept = self.published.values();
        let unsent = self.rows.values().map(|row| {
            let status = if self.is_in_flight(row) {
                MessageStatus::Ready
            } else {
                walk.standing(row)
            };
            (row.message.id, status)
        });
        kept.map(|kept| (kept.message.id, MessageStatus::Published))
            .chain(unsent)
            .collect()
    }
}
