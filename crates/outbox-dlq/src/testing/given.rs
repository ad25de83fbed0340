//! What cases are made of: moments, messages, requests.

use std::time::Duration;

use outbox_core::message::{Kind, Message, NewMessage};
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;

use crate::{Action, ActionId, Attempts, DeadLetter, DrainRequest, Filter, RedriveRequest};

/// When every case begins.
pub(super) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// How long everything is leased and claimed.
pub(super) const LEASE: Duration = Duration::from_secs(30);
/// A second.
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// `seconds` after the start.
pub(super) fn after(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

/// A message to topic `t`.
pub(super) fn message(text: &str) -> NewMessage {
    NewMessage::new("t", text.to_owned()).kind(Kind::new("k"))
}

/// A message with an ordering key.
pub(super) fn keyed(key: &str, text: &str) -> NewMessage {
    message(text).ordering_key(key)
}

/// An attempt that failed at `at`.
pub(super) fn failure(at: Timestamp, error: &str) -> AttemptRecord {
    AttemptRecord {
        at,
        duration: Duration::from_millis(250),
        kind: "failed".to_owned(),
        error: error.to_owned(),
    }
}

/// The payloads as texts.
pub(super) fn texts<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<String> {
    let text = |message: &Message| String::from_utf8_lossy(&message.payload).into_owned();
    messages.into_iter().map(text).collect()
}

/// The payloads of letters as texts.
pub(super) fn letter_texts(letters: &[DeadLetter]) -> Vec<String> {
    texts(letters.iter().filter_map(|letter| letter.message.as_ref()))
}

/// What an operator does in these cases.
pub(super) fn action(number: u64) -> Action {
    Action {
        id: ActionId(number),
        by: "ada".to_owned(),
        reason: "mended".to_owned(),
    }
}

/// A redrive of everything at `now`, without a limit.
pub(super) fn redrive_all(now: Timestamp) -> RedriveRequest {
    RedriveRequest {
        filter: Filter::default(),
        after: None,
        max: 100,
        attempts: Attempts::Reset,
        max_redrives: None,
        dry_run: false,
        action: action(1),
        now,
    }
}

/// A drain of what has failed `threshold` times.
pub(super) fn drain(threshold: u32, now: Timestamp) -> DrainRequest {
    DrainRequest {
        threshold,
        failing_since: None,
        max: 100,
        lease: LEASE,
        now,
    }
}
