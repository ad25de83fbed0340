//! What can become of a message, and what stands in its record.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// The longest error text that is stored with a message, in bytes; longer ones are cut.
pub const ERROR_TEXT_BYTES: usize = 1_024;

/// How many attempts a message's stored history holds; older ones are dropped, the count is not.
pub const HISTORY_LENGTH: usize = 16;

/// Where a message stands in its outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[doc(alias = "status")]
pub enum MessageStatus {
    /// To be published as soon as a relay comes to it.
    Ready,
    /// Not before its due time: scheduled by its sender, or waiting for a retry.
    Waiting,
    /// Held behind an earlier message of its ordering key.
    Parked,
    /// Published, and kept for the retention window.
    Published,
    /// Out of the outbox: it could not be delivered, and rests until an operator decides.
    Quarantined,
}

/// One failed attempt, as it is stored with the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// When the attempt began.
    #[doc(alias = "started_at")]
    pub at: Timestamp,
    /// How long it took.
    #[doc(alias = "duration_ms")]
    #[doc(alias = "completed_at")]
    pub duration: Duration,
    /// A short stable word for what went wrong, as `failed`.
    pub kind: String,
    /// The error's text with its causes, cut to [`ERROR_TEXT_BYTES`].
    #[doc(alias = "error_message")]
    pub error: String,
}

impl AttemptRecord {
    /// Appends this record to `history`, which keeps its last [`HISTORY_LENGTH`] entries.
    pub fn push_to(self, history: &mut Vec<Self>) {
        if history.len() >= HISTORY_LENGTH {
            history.drain(..=history.len() - HISTORY_LENGTH);
        }
        history.push(self);
    }
}

/// What happens to an ordering key when one of its messages fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OnFailure {
    /// The key waits until the message is published or quarantined; order is kept.
    #[default]
    BlockKey,
    /// The key's other messages go on; the failed one comes when it comes.
    SkipMessage,
    /// As [`OnFailure::BlockKey`]; and where the message is quarantined, the key stays parked until
    /// an operator resumes it.
    ParkKey,
}

/// How strongly a backend keeps the order of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ordering {
    /// No order at all: one message of a key may be in flight at a time, or order is lost.
    None,
    /// Messages of one ordering key keep their order.
    PerKey,
    /// All messages keep commit order, but for those that are put back, or that come while a backlog
    /// is drained and have no ordering key.
    Commit,
}
