//! An entry of the quarantine as a dead letter, and the other way round.

use bytes::Bytes;
use outbox_core::packed::frame;
use outbox_core::time::Timestamp;
use outbox_dlq::{DeadLetter, Origin};

use super::number::letter_id;
use crate::error::Fault;
use crate::link::Arg;
use crate::queue::entry::Entry;

/// A dead letter, and whether it came from elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) letter: DeadLetter,
    pub(super) imported: bool,
}

/// The dead letter in an entry of the quarantine of `queue`; where a part of it cannot be read, that is
/// told in it.
pub(super) fn read(entry: &Entry, queue: &str) -> Option<Stored> {
    let Some(id) = letter_id(entry.id) else {
        tracing::error!(queue, entry = %entry.id, "a dead letter has no number of 64 bits");
        return None;
    };
    let elsewhere = entry.text_of("i");
    let own = || Origin::Queue(queue.to_owned());
    let origin = elsewhere.as_deref().map(str::parse);
    let resting = entry.quarantined();
    let fingerprint =
        DeadLetter::fingerprint_of(resting.message.as_ref(), &resting.kind, &resting.error);
    let in_id = i64::try_from(entry.id.major).unwrap_or(i64::MAX);
    let body = entry.field("raw");
    let body = body.or(entry.field("m").filter(|_| resting.message.is_none()));
    let letter = DeadLetter {
        id,
        problem: problem(entry, &origin),
        origin: origin.and_then(Result::ok).unwrap_or_else(own),
        place: resting.place,
        message: resting.message,
        body: body.cloned(),
        attempts: resting.attempts,
        redrives: resting.redrives,
        history: resting.history,
        first_failed_at: resting.first_failed_at,
        last_failed_at: resting.last_failed_at,
        kind: resting.kind,
        error: resting.error,
        quarantined_at: entry
            .moment_of("q")
            .unwrap_or(Timestamp::from_millis(in_id)),
        fingerprint,
    };
    Some(Stored {
        letter,
        imported: elsewhere.is_some(),
    })
}

/// What is wrong with the record of a letter; what could not be read in the queue is no part of it.
fn problem<E: std::fmt::Display>(
    entry: &Entry,
    origin: &Option<Result<Origin, E>>,
) -> Option<String> {
    let was_unreadable = entry.field("m").is_none() && entry.field("p").is_some();
    let message = entry.message().err().filter(|_| !was_unreadable);
    let history = entry.history().err();
    let origin = origin.as_ref().and_then(|origin| origin.as_ref().err());
    let problems = [
        message.map(|problem| problem.to_string()),
        history.map(|problem| problem.to_string()),
        origin.map(|problem| problem.to_string()),
    ];
    let problems: Vec<_> = problems.into_iter().flatten().collect();
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// The fields of an entry for a letter from elsewhere.
pub(super) fn fields(letter: &DeadLetter) -> Result<Vec<Arg>, Fault> {
    let moment = |moment: Timestamp| Arg::Integer(moment.as_micros());
    let mut fields = vec![
        ("a", Arg::Integer(i64::from(letter.attempts))),
        ("f", moment(letter.first_failed_at)),
        ("h", Arg::Bytes(history(letter)?)),
        ("i", Arg::from(letter.origin.to_string())),
        ("l", moment(letter.last_failed_at)),
        ("o", Arg::from(letter.place.as_str())),
        ("p", Arg::from(letter.error.as_str())),
        ("q", moment(letter.quarantined_at)),
        ("r", Arg::Integer(i64::from(letter.redrives))),
        ("x", Arg::from(letter.kind.as_str())),
    ];
    if let Some(message) = &letter.message {
        let mut packed = Vec::with_capacity(frame::size_hint(message));
        frame::write(message, &mut packed);
        fields.push(("m", Arg::Bytes(packed.into())));
    }
    if let Some(body) = &letter.body {
        fields.push(("raw", Arg::Bytes(body.clone())));
    }
    let texts = fields.into_iter();
    Ok(texts
        .flat_map(|(name, value)| [Arg::from_static_str(name), value])
        .collect())
}

/// Failed attempts, each behind its length.
fn history(letter: &DeadLetter) -> Result<Bytes, Fault> {
    let mut packed = Vec::new();
    for attempt in &letter.history {
        let text = serde_json::to_vec(attempt)
            .map_err(|error| outbox_core::OutboxError::codec("a failed attempt", error))?;
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(&text);
    }
    Ok(packed.into())
}
