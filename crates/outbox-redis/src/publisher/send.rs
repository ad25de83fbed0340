//! What a batch looks like on the wire, and what the scripts answer.

use outbox_core::message::Message;
use outbox_core::time::Timestamp;

use super::config::{EntryIds, RedisPublisherConfig};
use super::loss::Cause;
use crate::batch::frames;
use crate::error::Fault;
use crate::link::{Arg, Link, Reply, Script, Texts};

static BY_ID: Script = Script::new(concat!(
    include_str!("../scripts/fence.lua"),
    include_str!("../scripts/seen.lua"),
    include_str!("../scripts/publish.lua")
));
static LOSSES: Script = Script::new(concat!(
    include_str!("../scripts/fence.lua"),
    include_str!("../scripts/losses.lua")
));
static BY_SEQUENCE: Script = Script::new(concat!(
    include_str!("../scripts/fence.lua"),
    include_str!("../scripts/sequence.lua")
));

/// The keys of one stream and one origin.
#[derive(Debug)]
pub(super) struct StreamKeys {
    pub(super) stream: String,
    /// What the server remembers of the origin: epoch, last entry, its own incarnation.
    pub(super) origin: String,
    /// What the keys of what was published begin with.
    pub(super) published: String,
}

/// What a script answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// So many of the batch's first messages are there, and this is the last entry.
    Done { fit: usize, last: String },
    /// A newer epoch was seen.
    Stale { seen: u64 },
    /// Entries are not there, or may not be; this is the last one that the server has kept.
    Lost { cause: Cause, last: String },
    /// Somebody else has written to the stream; the last entry is this one.
    Foreign { last: String },
    /// A place in the outbox was given to a second message.
    Reused { sequence: u64 },
    /// The part before is not there whole.
    Apart,
}

/// What goes into one script.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) messages: &'a [Message],
    /// The last entry that the caller knows of.
    pub(super) known: String,
    /// What the part is called that must be there whole before this one; empty where none must.
    pub(super) before: String,
    /// What this one is called.
    pub(super) name: String,
}

/// Sends a part by one script.
pub(super) async fn send(
    link: &Link,
    config: &RedisPublisherConfig,
    keys: &StreamKeys,
    part: Part<'_>,
) -> Result<Sent, Fault> {
    let messages = part.messages;
    let epoch = messages.iter().map(|message| message.epoch.0).min();
    let mut args = vec![
        Arg::from(epoch.unwrap_or_default().to_string()),
        Arg::from(part.known),
        Arg::from(part.before),
        Arg::from(part.name),
        number(config.high_water),
    ];
    let window = config.dedup_window;
    let script = match config.ids {
        EntryIds::Server => {
            args.push(number((window / 2).as_micros()));
            let mut texts = Texts::default();
            args.extend(messages.iter().map(|m| texts.bytes(m.id.as_bytes())));
            args.extend(frames(messages).into_iter().map(Arg::Bytes));
            &BY_ID
        }
        EntryIds::Sequence => {
            args.push(number(window.as_millis()));
            push_places(&mut args, messages);
            &BY_SEQUENCE
        }
    };
    let keys = [keys.stream.as_str(), &keys.origin, &keys.published];
    read(link.run(script, &keys, args).await?)
}

/// Asks, as [`send`] would, what has become of what is there, and sends nothing.
pub(super) async fn look(link: &Link, keys: &StreamKeys, known: &str) -> Result<Sent, Fault> {
    // Who sends nothing need not be the newest.
    let args = vec![
        Arg::from(u64::MAX.to_string()),
        Arg::from(known),
        Arg::from(""),
    ];
    let keys = [keys.stream.as_str(), &keys.origin];
    read(link.run(&LOSSES, &keys, args).await?)
}

fn push_places(args: &mut Vec<Arg>, messages: &[Message]) {
    let micros = |created: Timestamp| created.as_micros() as f64;
    let created = messages.iter().map(|m| micros(m.created_at));
    args.push(bytes(created.flat_map(f64::to_le_bytes).collect()));
    let newest = messages.iter().map(|m| m.created_at).max();
    args.push(Arg::from(
        newest.map_or(0, Timestamp::as_micros).to_string(),
    ));
    let places = messages.iter().map(|message| message.sequence.0);
    let in_a_row = places.is_sorted_by(|one, next| one.checked_add(1) == Some(*next));
    args.push(number(i64::from(in_a_row)));
    let mut texts = Texts::default();
    for (message, frame) in messages.iter().zip(frames(messages)) {
        args.push(texts.text(message.sequence));
        args.push(Arg::Bytes(frame));
    }
}

fn number(number: impl TryInto<i64>) -> Arg {
    Arg::Integer(number.try_into().unwrap_or(i64::MAX))
}

fn bytes(bytes: Vec<u8>) -> Arg {
    Arg::Bytes(bytes.into())
}

fn read(reply: Reply) -> Result<Sent, Fault> {
    let mut pieces = reply.list()?;
    let mut next = || {
        pieces.next().ok_or(Fault::Reply {
            wanted: "an answer of the script",
            found: "too short a list".to_owned(),
        })
    };
    let word = next()?.text()?;
    Ok(match word.as_str() {
        "ok" => Sent::Done {
            fit: usize::try_from(next()?.number()?).unwrap_or(0),
            last: next()?.text()?,
        },
        "stale" => Sent::Stale {
            seen: next()?.number()?.unsigned_abs(),
        },
        "lost" => lost(Cause::Lost, next()?)?,
        "restarted" => lost(Cause::Restarted, next()?)?,
        "unmarked" => lost(Cause::Unmarked, next()?)?,
        "foreign" => Sent::Foreign {
            last: next()?.text()?,
        },
        "reused" => Sent::Reused {
            sequence: next()?.number()?.unsigned_abs(),
        },
        "apart" => Sent::Apart,
        _ => {
            return Err(Fault::Reply {
                wanted: "an answer of the script",
                found: word,
            });
        }
    })
}

fn lost(cause: Cause, last: Reply) -> Result<Sent, Fault> {
    let last = last.text()?;
    Ok(Sent::Lost { cause, last })
}
