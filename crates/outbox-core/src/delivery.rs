//! What is handed to those who work: claimed messages and queue deliveries.

use std::sync::Arc;

use crate::error::Result;
use crate::lease::{LeaseToken, Receipt};
use crate::message::{Message, MessageBody};
use crate::status::AttemptRecord;
use crate::time::Timestamp;

/// A claimed message: the relay's to publish and settle until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    /// The message.
    pub message: Message,
    /// The proof to settle it with.
    pub token: LeaseToken,
    /// The number of this attempt, from 1.
    #[doc(alias = "retry_count")]
    pub attempt: u32,
    /// Earlier failed attempts, oldest first, at most [`crate::status::HISTORY_LENGTH`].
    pub history: Vec<AttemptRecord>,
}

/// A message handed to a worker by a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The message; shared, so that who hands the delivery on copies none of it.
    pub message: Arc<Message>,
    /// The proof to settle it with.
    pub receipt: Receipt,
    /// The number of this attempt, from 1; delays for limits and breakers are not counted.
    pub attempt: u32,
    /// How often its holder's lease ended and another took it over, since an attempt was last
    /// settled as failed. One that is taken over again and again may kill those who handle it.
    pub takeovers: u32,
    /// The last failed attempt's record, where there was one; boxed, because most deliveries have none and
    /// are moved often.
    pub last_failure: Option<Box<AttemptRecord>>,
    /// When the message entered the queue.
    pub enqueued_at: Timestamp,
}

impl Delivery {
    /// The payload read as the JSON of `T`.
    ///
    /// # Errors
    /// As [`Message::json`].
    pub fn json<T: MessageBody>(&self) -> Result<T> {
        self.message.json()
    }
}

/// A stored row or entry that could not be read; it was set aside, and its neighbours were not
/// affected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where it stood: the row's or entry's own name.
    pub place: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A message at rest: it could not be delivered, and stays until an operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "DlqEntry")]
pub struct Quarantined {
    /// Where it stood: the row's or entry's own name.
    pub place: String,
    /// The message as it was appended; `None` where its row could not be read.
    pub message: Option<Message>,
    /// How many attempts were made.
    pub attempts: u32,
    /// The failed attempts, oldest first, at most [`crate::status::HISTORY_LENGTH`].
    pub history: Vec<AttemptRecord>,
    /// When the first attempt began that failed; when it was found where it is unreadable.
    pub first_failed_at: Timestamp,
    /// When the last attempt began that failed; when it was found where it is unreadable.
    pub last_failed_at: Timestamp,
    /// The last failure's kind; `unreadable` where its row could not be read.
    pub kind: String,
    /// The last failure's text.
    pub error: String,
    /// How often it was sent back from quarantine before.
    pub redrives: u32,
}
