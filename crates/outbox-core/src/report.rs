//! What ports and orchestrators answer when they are done.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delivery::{Leased, Unreadable};
use crate::id::{MessageId, WorkerId};
use crate::lease::Epoch;
use crate::message::{Kind, Message};
use crate::time::Timestamp;

/// What became of one message of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The message's id; that of the first message where this one is a duplicate.
    pub id: MessageId,
    /// Whether a message with the same idempotency key or id was there already.
    pub duplicate: bool,
}

/// What an append did, in the order of its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendReport {
    /// One answer for each message.
    pub messages: Vec<Appended>,
}

impl AppendReport {
    /// How many messages were added.
    #[must_use]
    pub fn added(&self) -> usize {
        self.messages
            .iter()
            .filter(|message| !message.duplicate)
            .count()
    }

    /// How many were there already.
    #[must_use]
    pub fn duplicates(&self) -> usize {
        self.messages.len() - self.added()
    }
}

/// What a claim found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimReport {
    /// The claimed messages, in the order in which they are to be published.
    pub leased: Vec<Leased>,
    /// Rows that could not be read; they were moved to quarantine.
    pub unreadable: Vec<Unreadable>,
    /// The earliest moment at which more may become claimable without a wake-up: a due time, or the
    /// end of another relay's lease; `None` where only a wake-up can bring more.
    pub next_due: Option<Timestamp>,
    /// Whether more may be claimable right now.
    pub more: bool,
}

/// What a settlement changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettleReport {
    /// How many settlements took effect.
    pub settled: u64,
    /// The places, in the request, of those that did not, because their lease was lost.
    pub lost: Vec<usize>,
}

/// What a replay made ready again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayReport {
    /// How many messages.
    pub replayed: u64,
    /// What has an epoch below this one was claimed before the last replay that found anything, and
    /// what is claimed from now on has none below it.
    pub epoch: Epoch,
}

/// The state of an outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxStats {
    /// Messages to be published now, claimed ones among them.
    pub ready: u64,
    /// Messages whose due time is to come: scheduled, or waiting for a retry.
    pub waiting: u64,
    /// Messages held behind an earlier one of their key.
    pub parked: u64,
    /// Published messages that are kept for the retention window.
    pub published: u64,
    /// Messages in quarantine.
    pub quarantined: u64,
    /// When the oldest unpublished message was created.
    #[doc(alias = "outbox_event_age_seconds")]
    pub oldest: Option<Timestamp>,
}

impl OutboxStats {
    /// Messages that are not published and not in quarantine.
    #[doc(alias = "outbox_queue_depth")]
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.ready + self.waiting + self.parked
    }
}

/// The state of a queue, as one consumer group sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStats {
    /// Entries that wait to be delivered now.
    pub ready: u64,
    /// Entries delivered and not settled.
    #[doc(alias = "pending")]
    #[doc(alias = "PEL")]
    pub in_flight: u64,
    /// Entries that wait for their due time.
    pub delayed: u64,
    /// Entries in quarantine.
    pub quarantined: u64,
    /// Workers that hold a delivery now.
    pub consumers: u64,
    /// When the oldest unsettled entry was enqueued.
    pub oldest: Option<Timestamp>,
}

impl QueueStats {
    /// Entries that are not settled.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.ready + self.in_flight + self.delayed
    }
}

/// What happened to one message or delivery of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Fate {
    /// Published or handled.
    Done,
    /// Failed, and to be tried again.
    Retried,
    /// Failed for the last time, or refused: now in quarantine.
    Quarantined,
    /// Put back untried: no attempt was counted.
    Deferred,
    /// Handled before, and now acknowledged without effect.
    Duplicate,
    /// Failed after it was acknowledged, and so gone: possible at most once only.
    Dropped,
    /// The lease or delivery was lost; somebody else has it.
    Lost,
}

/// One message or delivery in a [`BatchReport`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageReport {
    /// The message's id.
    pub id: MessageId,
    /// The message's topic.
    pub topic: String,
    /// The message's kind.
    pub kind: Kind,
    /// The message's ordering key.
    pub ordering_key: Option<String>,
    /// The number of this attempt, from 1.
    #[doc(alias = "attempt_number")]
    pub attempt: u32,
    /// From the message's creation to the end of this attempt.
    pub age: Duration,
    /// What happened.
    pub fate: Fate,
    /// The kind of the error and its text, where there was one.
    pub error: Option<(String, String)>,
}

impl MessageReport {
    /// The report of an attempt at `message` that ended at `now`.
    #[must_use]
    pub fn of(message: &Message, attempt: u32, fate: Fate, now: Timestamp) -> Self {
        Self {
            id: message.id,
            topic: message.topic.clone(),
            kind: message.kind.clone(),
            ordering_key: message.ordering_key.clone(),
            attempt,
            age: now.since(message.created_at),
            fate,
            error: None,
        }
    }
}

/// Which side of the system a batch passed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// A relay published it.
    Publish,
    /// A worker handled it.
    Handle,
}

/// What happened to one batch, told to every [`crate::ports::DeliveryHook`] after it was settled.
#[derive(Clone, Debug)]
pub struct BatchReport {
    /// Whether a relay or a worker tells this.
    pub stage: Stage,
    /// Who worked.
    #[doc(alias = "processor_id")]
    pub worker: WorkerId,
    /// The destination's or the queue's name.
    pub destination: String,
    /// How long publishing or handling took.
    pub duration: Duration,
    /// One report for each message.
    pub messages: Vec<MessageReport>,
}

/// Counts of what an orchestrator did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Published or handled.
    pub done: u64,
    /// Failed attempts that will be tried again.
    pub retried: u64,
    /// Moved to quarantine, unreadable rows and entries among them.
    pub quarantined: u64,
    /// Put back untried.
    pub deferred: u64,
    /// Deliveries that were handled before, acknowledged without effect.
    pub duplicates: u64,
    /// Deliveries that failed after they were acknowledged: at most once only.
    pub dropped: u64,
    /// Leases lost to another relay or worker; no message is lost by that.
    pub lost: u64,
}

impl Tally {
    /// Counts one more of `fate`.
    pub fn count(&mut self, fate: Fate) {
        match fate {
            Fate::Done => self.done += 1,
            Fate::Retried => self.retried += 1,
            Fate::Quarantined => self.quarantined += 1,
            Fate::Deferred => self.deferred += 1,
            Fate::Duplicate => self.duplicates += 1,
            Fate::Dropped => self.dropped += 1,
            Fate::Lost => self.lost += 1,
        }
    }

    /// Adds `other` to this tally.
    pub fn add(&mut self, other: Self) {
        self.done += other.done;
        self.retried += other.retried;
        self.quarantined += other.quarantined;
        self.deferred += other.deferred;
        self.duplicates += other.duplicates;
        self.dropped += other.dropped;
        self.lost += other.lost;
    }
}

/// What a graceful stop left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[doc(alias = "GetWorkerStats")]
pub struct StopReport {
    /// Everything done since the start.
    pub tally: Tally,
    /// Messages in flight when the stop was asked for that were finished within the grace period.
    pub finished: u64,
    /// Messages in flight that were given back for another to take at once.
    pub released: u64,
    /// Messages in flight whose outcome is unknown; their lease's end brings them back.
    pub abandoned: u64,
}
