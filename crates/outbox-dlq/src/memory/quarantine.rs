use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use outbox_core::OutboxError;
use outbox_core::delivery::Quarantined;
use outbox_core::error::Result;
use outbox_core::lease::Sequence;
use outbox_core::memory::{MemoryOutbox, MemoryQueue, Removal};
use outbox_core::time::Timestamp;

use super::letters::{Held, Letters};
use crate::heap::DlqEntry;
use crate::letter::{Counts, DeadLetter, Filter, LetterId, Listing, Page};
use crate::origin::Origin;
use crate::quarantine::{
    Action, ActionKind, Attempts, AuditRecord, CountRequest, DiscardReport, DiscardRequest,
    ImportReport, Move, Quarantine, RedriveCursor, RedriveReport, RedriveRequest, Refusal,
};

/// A quarantine in memory, for a memory outbox and any number of memory queues; shared by cloning.
///
/// What they have in their own quarantine it takes over when it is next asked for anything, and they
/// do not count it any more.
#[derive(Clone, Default)]
pub struct MemoryQuarantine {
    outbox: Option<MemoryOutbox>,
    queues: BTreeMap<String, MemoryQueue>,
    letters: Arc<Mutex<Letters>>,
}

impl MemoryQuarantine {
    /// A quarantine of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an outbox.
    #[must_use]
    pub fn with_outbox(mut self, outbox: MemoryOutbox) -> Self {
        self.outbox = Some(outbox);
        self
    }

    /// Adds a queue.
    #[must_use]
    pub fn with_queue(mut self, queue: MemoryQueue) -> Self {
        let name = outbox_core::ports::Queue::name(&queue).to_owned();
        self.queues.insert(name, queue);
        self
    }

    /// Damages the record of a dead letter, as a broken disk would; whether there is one.
    pub fn corrupt(&self, id: LetterId) -> bool {
        let mut letters = self.letters();
        let Some(held) = letters.held.get_mut(&id) else {
            return false;
        };
        held.letter.message = None;
        held.letter.problem = Some("damaged on purpose".to_owned());
        true
    }

    /// All letters, those among them that came to rest since the last look.
    fn letters(&self) -> MutexGuard<'_, Letters> {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        let resting = self.outbox.iter().flat_map(MemoryOutbox::take_quarantined);
        for resting in resting {
            let at = resting.last_failed_at;
            letters.add(&Origin::Outbox, resting, at);
        }
        for (name, queue) in &self.queues {
            for resting in queue.take_quarantined() {
                let at = resting.last_failed_at;
                letters.add(&Origin::Queue(name.clone()), resting, at);
            }
        }
        letters
    }

    fn take_out(&self, entry: &DlqEntry, now: Timestamp) -> Removal {
        let id = entry.subject.id;
        match &entry.subject.origin {
            Origin::Outbox => self.outbox.as_ref().map(|outbox| outbox.take_out(id, now)),
            Origin::Queue(name) => self.queues.get(name).map(|queue| queue.take_out(id)),
        }
        .unwrap_or(Removal::Gone)
    }

    /// Why a letter is not sent back, where it is not.
    fn objection(&self, held: &Held, request: &RedriveRequest) -> Option<Refusal> {
        let DeadLetter { id, origin, .. } = held.letter.clone();
        let Some(message) = &held.letter.message else {
            return Some(Refusal::Unreadable { id });
        };
        let redrives = held.letter.redrives;
        if let Some(limit) = request.max_redrives.filter(|limit| redrives >= *limit) {
            return Some(Refusal::TooOften {
                id,
                redrives,
                limit,
            });
        }
        let free = match &origin {
            Origin::Outbox => self.outbox.as_ref().map(|outbox| outbox.lacks(message.id)),
            Origin::Queue(name) => self.queues.get(name).map(|queue| queue.lacks(message.id)),
        };
        match free {
            None => Some(Refusal::NoOrigin { id, origin }),
            Some(false) => Some(Refusal::AlreadyThere { id, origin }),
            Some(true) => None,
        }
    }

    /// Whether `origin` takes one more.
    fn has_room(&self, origin: &Origin) -> bool {
        match origin {
            Origin::Outbox => true,
            Origin::Queue(name) => self.queues.get(name).is_none_or(MemoryQueue::has_room),
        }
    }

    fn send_back(&self, held: Held, request: &RedriveRequest) {
        let letter = held.letter;
        let mut message = letter.message;
        let mut place = letter.place;
        if held.imported {
            place.clear();
            if let Some(message) = &mut message {
                message.sequence = Sequence(0);
            }
        }
        let resting = Quarantined {
            place,
            message,
            attempts: match request.attempts {
                Attempts::Reset => 0,
                Attempts::Keep => letter.attempts,
            },
            history: letter.history,
            first_failed_at: letter.first_failed_at,
            last_failed_at: letter.last_failed_at,
            kind: letter.kind,
            error: letter.error,
            redrives: letter.redrives.saturating_add(1),
        };
        // It was found to be free, and nobody else has this outbox or queue put anything back.
        let _ = match &letter.origin {
            Origin::Outbox => self.outbox.as_ref().map(|outbox| outbox.put_back(resting)),
            Origin::Queue(name) => {
                let queue = self.queues.get(name);
                queue.map(|queue| queue.put_back(resting, request.now))
            }
        };
    }

    /// The next letters that are meant, in the order of their origin, and whether that was all.
    fn next(letters: &Letters, request: &RedriveRequest) -> (Vec<RedriveCursor>, bool) {
        let cursors = letters.meant(&request.filter).map(Held::cursor);
        let mut cursors: Vec<_> = cursors
            .filter(|cursor| request.after.as_ref().is_none_or(|after| cursor > after))
            .collect();
        cursors.sort();
        let all = cursors.len() <= request.max;
        cursors.truncate(request.max);
        (cursors, all)
    }
}

/// Refuses a filter with too many ids.
fn check(filter: &Filter) -> Result<()> {
    if filter.ids.len() <= Filter::MOST_IDS {
        return Ok(());
    }
    Err(OutboxError::Limit {
        what: "ids in a filter".to_owned(),
        actual: filter.ids.len() as u64,
        limit: Filter::MOST_IDS as u64,
    })
}

#[async_trait]
impl Quarantine for MemoryQuarantine {
    async fn quarantine(&self, entries: &[DlqEntry], now: Timestamp) -> Result<Vec<Move>> {
        let mut letters = self.letters();
        let mut moves = Vec::with_capacity(entries.len());
        for entry in entries {
            moves.push(match self.take_out(entry, now) {
                Removal::InFlight => Move::InFlight,
                Removal::Gone => Move::Gone,
                Removal::Moved(mut resting) => {
                    if resting.history.is_empty() {
                        resting.first_failed_at = entry.first_failed_at;
                        resting.last_failed_at = entry.last_failed_at;
                        resting.kind.clone_from(&entry.kind);
                        resting.error.clone_from(&entry.error);
                    }
                    letters.add(&entry.subject.origin, *resting, now);
                    Move::Moved
                }
            });
        }
        Ok(moves)
    }

    async fn list(&self, filter: &Filter, page: Page) -> Result<Listing> {
        check(filter)?;
        Ok(self.letters().list(filter, page))
    }

    async fn last(&self) -> Result<Option<LetterId>> {
        let letters = self.letters();
        Ok(letters.held.last_key_value().map(|(id, _)| *id))
    }

    async fn redrive(&self, request: &RedriveRequest) -> Result<RedriveReport> {
        check(&request.filter)?;
        let mut letters = self.letters();
        let (cursors, all) = Self::next(&letters, request);
        let mut report = RedriveReport::default();
        let mut looked_at = request.after.clone();
        for cursor in &cursors {
            let objection = letters.held.get(&cursor.id);
            let objection = objection.and_then(|held| self.objection(held, request));
            if objection.is_none() && !request.dry_run && !self.has_room(&cursor.origin) {
                report.full = Some(cursor.origin.clone());
                break;
            }
            looked_at = Some(cursor.clone());
            if let Some(refusal) = objection {
                report.refused.push(refusal);
                continue;
            }
            report.redriven.push(cursor.id);
            if !request.dry_run
                && let Some(held) = letters.held.remove(&cursor.id)
            {
                self.send_back(held, request);
            }
        }
        let is_idle = report.full.is_some() && report.redriven.is_empty();
        if !request.dry_run && !is_idle {
            let what = (&request.action, request.filter.to_string());
            let sent = report.redriven.len() as u64;
            letters.record(ActionKind::Redrive, what, sent, request.now);
        }
        report.next = looked_at.filter(|_| !all || report.full.is_some());
        Ok(report)
    }

    async fn discard(&self, request: &DiscardRequest) -> Result<DiscardReport> {
        check(&request.filter)?;
        let mut letters = self.letters();
        let meant = letters.meant(&request.filter).map(|held| held.letter.id);
        let mut meant: Vec<_> = meant.take(request.max.saturating_add(1)).collect();
        let more = meant.len() > request.max;
        meant.truncate(request.max);
        for id in &meant {
            letters.held.remove(id);
        }
        let what = (&request.action, request.filter.to_string());
        letters.record(ActionKind::Discard, what, meant.len() as u64, request.now);
        Ok(DiscardReport {
            discarded: meant.len() as u64,
            more,
        })
    }

    async fn count(&self, request: &CountRequest) -> Result<Counts> {
        check(&request.filter)?;
        Ok(self.letters().count(&request.filter, request.max))
    }

    async fn import(
        &self,
        imported: &[DeadLetter],
        action: &Action,
        now: Timestamp,
    ) -> Result<ImportReport> {
        let mut letters = self.letters();
        let mut report = ImportReport::default();
        for letter in imported {
            if letters.has(letter) {
                report.duplicates += 1;
            } else {
                letters.insert(letter.clone(), true);
                report.imported += 1;
            }
        }
        let what = (action, "imported lines".to_owned());
        letters.record(ActionKind::Import, what, report.imported, now);
        Ok(report)
    }

    async fn audit(&self, after: u64, max: usize) -> Result<Vec<AuditRecord>> {
        let letters = self.letters();
        let behind = letters.audit.iter().filter(|record| record.number > after);
        Ok(behind.take(max).cloned().collect())
    }
}
