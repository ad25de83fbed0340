//! What has happened in a world, and the rules that everything in it has to keep.

mod closing;
mod damage_rules;
mod outbox_rules;
mod queue_rules;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::config::Scenario;
use super::step::{Number, Step};
use crate::id::{MessageId, WorkerId};
use crate::lease::{EntryId, Epoch};
use crate::signal::Wake;
use crate::status::OnFailure;
use crate::time::{Clock, Timestamp, TokioClock};

pub(super) use closing::Remains;

/// The most calls to ports that a world makes: more is a loop that gets nowhere.
const MOST_CALLS: u64 = 200_000;

/// A rule that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Breach {
    pub(super) rule: &'static str,
    pub(super) how: String,
}

pub(super) type Ruling = Result<(), Breach>;

/// Fails with `rule` unless `holds`.
fn hold(holds: bool, rule: &'static str, how: impl FnOnce() -> String) -> Ruling {
    if holds {
        Ok(())
    } else {
        Err(Breach { rule, how: how() })
    }
}

/// A message's own fault: who will never take it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Poison {
    /// Everybody takes it.
    #[default]
    None,
    /// The queue refuses it.
    Queue,
    /// The handler rejects it.
    Handler,
}

/// Where a message stands on its way out of the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    #[default]
    Waiting,
    Claimed(Epoch),
    Published,
    Quarantined,
}

/// What is known of one committed message.
#[derive(Debug, Default)]
struct Known {
    id: Option<MessageId>,
    payload: Bytes,
    key: Option<u32>,
    poison: Poison,
    standing: Standing,
    /// Not to be claimed before.
    due: Option<Timestamp>,
    /// Failed attempts that the outbox counted, and what may have caused them.
    failures: u32,
    refusals: u32,
    sent_alone: u32,
    /// How often the queue added it.
    added: u32,
    /// How often the second place took it.
    mirrored: u32,
    quarantined_in_queue: bool,
    row_damaged: bool,
    entry_damaged: bool,
    starts: u32,
    failed_answers: u32,
    handled: u32,
    /// Whether a producer appended it, not a handler.
    produced: bool,
}

#[derive(Debug, Default)]
struct KeyBook {
    /// Its messages that are neither published nor in quarantine.
    open: BTreeSet<Number>,
    last_added: Option<Number>,
    last_mirrored: Option<Number>,
    parked: bool,
}

#[derive(Debug, Default)]
struct LeaseBook {
    owner: Option<WorkerId>,
    epoch: Epoch,
    until: Timestamp,
}

#[derive(Debug)]
struct EntryBook {
    message: Number,
    failures: u32,
    due: Option<Timestamp>,
    /// Who has it, until when, by which token.
    held: Option<(WorkerId, Timestamp, u64)>,
}

/// All that is known of a world.
#[derive(Debug)]
pub(super) struct Books {
    config: Scenario,
    messages: Vec<Known>,
    numbers: HashMap<MessageId, Number>,
    keys: BTreeMap<u32, KeyBook>,
    lease: LeaseBook,
    entries: BTreeMap<EntryId, EntryBook>,
    /// The message of each entry that was ever added, in order; entries are numbered from 1.
    added: Vec<Number>,
    /// How many messages each incarnation of a relay holds.
    holding: HashMap<WorkerId, usize>,
    /// The entries that each incarnation of a worker has in hand, as far as it knows.
    in_hand: HashMap<WorkerId, BTreeSet<EntryId>>,
    /// The latest moment that the queue was told by a worker: what is due by then may be delivered.
    latest: Timestamp,
    calls: u64,
    trace: Vec<(Timestamp, Step)>,
    breach: Option<Breach>,
}

/// Remembers what happens, and judges it.
pub(super) struct Ledger {
    clock: TokioClock,
    books: Mutex<Books>,
    /// Given when something happened that the world waits for: the last message is done, or a rule
    /// is broken.
    pub(super) news: Wake,
}

impl Ledger {
    pub(super) fn new(config: Scenario, clock: TokioClock) -> Self {
        let books = Books {
            config,
            messages: Vec::new(),
            numbers: HashMap::new(),
            keys: BTreeMap::new(),
            lease: LeaseBook::default(),
            entries: BTreeMap::new(),
            added: Vec::new(),
            holding: HashMap::new(),
            in_hand: HashMap::new(),
            latest: Timestamp::EPOCH,
            calls: 0,
            trace: Vec::with_capacity(2_048),
            breach: None,
        };
        Self {
            clock,
            books: Mutex::new(books),
            news: Wake::new(),
        }
    }

    /// Reads the books.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Books) -> T) -> T {
        read(&self.books.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes into the books; keeps the first breach.
    pub(super) fn write(&self, write: impl FnOnce(&mut Books, Timestamp) -> Ruling) {
        let now = self.clock.now();
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(breach) = write(&mut books, now) {
            books.breach.get_or_insert(breach);
        }
        if books.breach.is_some() || books.is_done() {
            self.news.notify();
        }
    }

    pub(super) fn note(&self, step: Step) {
        self.write(|books, now| {
            books.note(now, step);
            Ok(())
        });
    }

    /// Counts a call to a port.
    pub(super) fn count_call(&self) {
        self.write(|books, _| {
            books.calls += 1;
            hold(books.calls <= MOST_CALLS, "a world comes to rest", || {
                format!("{} calls were made to ports", books.calls)
            })
        });
    }

    pub(super) fn calls(&self) -> u64 {
        self.read(|books| books.calls)
    }

    pub(super) fn breach(&self) -> Option<Breach> {
        self.read(|books| books.breach.clone())
    }

    pub(super) fn is_done(&self) -> bool {
        self.read(Books::is_done)
    }

    /// A number that stands for everything that happened, and when.
    pub(super) fn fingerprint(&self) -> u64 {
        self.read(|books| {
            let mut hasher = DefaultHasher::new();
            books.trace.hash(&mut hasher);
            hasher.finish()
        })
    }

    pub(super) fn trace(&self) -> Vec<(Timestamp, Step)> {
        self.read(|books| books.trace.clone())
    }

    /// What the world has to know of a message that is to be sent or handled.
    pub(super) fn poison(&self, id: MessageId) -> Poison {
        self.read(|books| {
            books
                .known(id)
                .map(|known| known.poison)
                .unwrap_or_default()
        })
    }
}

impl Books {
    pub(super) fn scenario(&self) -> &Scenario {
        &self.config
    }

    /// How many messages were committed until now.
    pub(super) fn committed_so_far(&self) -> Number {
        Number::try_from(self.messages.len()).unwrap_or(Number::MAX)
    }

    /// A message that `draw` draws below their number.
    pub(super) fn any_message(&self, draw: impl FnOnce(u64) -> u64) -> Option<MessageId> {
        let place = usize::try_from(draw(self.messages.len() as u64)).ok()?;
        self.messages.get(place)?.id
    }

    fn note(&mut self, now: Timestamp, step: Step) {
        self.trace.push((now, step));
    }

    fn number(&self, id: MessageId) -> Result<Number, Breach> {
        self.numbers.get(&id).copied().ok_or_else(|| Breach {
            rule: "nothing that was not committed is seen",
            how: format!("nobody committed the message {id}"),
        })
    }

    fn known(&self, id: MessageId) -> Option<&Known> {
        let number = self.numbers.get(&id)?;
        self.messages.get(*number as usize)
    }

    fn at(&self, number: Number) -> &Known {
        &self.messages[number as usize]
    }

    fn at_mut(&mut self, number: Number) -> &mut Known {
        &mut self.messages[number as usize]
    }

    fn key_of(&mut self, number: Number) -> Option<&mut KeyBook> {
        let key = self.messages[number as usize].key?;
        Some(self.keys.entry(key).or_default())
    }

    /// Whether the settings let a failed message be overtaken by others of its key.
    fn may_skip(&self) -> bool {
        self.config.relay.on_failure == OnFailure::SkipMessage
    }
}
