mod aside;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::delivery::{Delivery, Quarantined, Unreadable};
use crate::id::{MessageId, WorkerId};
use crate::lease::{EntryId, Receipt};
use crate::message::Message;
use crate::ports::{DeliveryOutcome, DeliverySettlement, DequeueReport};
use crate::report::{QueueStats, SettleReport};
use crate::status::AttemptRecord;
use crate::time::Timestamp;

/// What a queue holds: a state machine that is told the time and never waits.
#[derive(Debug, Default)]
pub(super) struct Entries {
    entries: BTreeMap<EntryId, Entry>,
    /// Places of the entries in [`Standing::Ready`], in queue order.
    ready: BTreeSet<EntryId>,
    /// Places of the entries in [`Standing::Delayed`], by due time.
    delayed: BTreeSet<(Timestamp, EntryId)>,
    /// Places of the entries in [`Standing::Leased`], by the end of their lease.
    leased: BTreeSet<(Timestamp, EntryId)>,
    remembered: Remembered,
    quarantine: Vec<Quarantined>,
    last_entry: u64,
    last_token: u64,
    /// How many entries there were when one more did not fit, where room was not told of since.
    full_at: Option<usize>,
}

#[derive(Debug)]
struct Entry {
    message: Arc<Message>,
    enqueued_at: Timestamp,
    failures: u32,
    takeovers: u32,
    first_failed_at: Option<Timestamp>,
    history: Vec<AttemptRecord>,
    standing: Standing,
    damaged: bool,
    redrives: u32,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    Ready,
    Delayed { until: Timestamp },
    Leased { receipt: Receipt, until: Timestamp },
}

/// To whom entries are handed out, and until when they are his.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub(super) owner: WorkerId,
    pub(super) until: Timestamp,
}

impl Entries {
    /// Adds `message` at the end, and remembers its id.
    pub(super) fn add(&mut self, message: &Message, now: Timestamp) {
        self.remembered.remember(message.id, now);
        self.last_entry += 1;
        let id = EntryId {
            major: self.last_entry,
            minor: 0,
        };
        let entry = Entry {
            message: Arc::new(message.clone()),
            enqueued_at: now,
            failures: 0,
            takeovers: 0,
            first_failed_at: None,
            history: Vec::new(),
            standing: Standing::Ready,
            damaged: false,
            redrives: 0,
        };
        self.entries.insert(id, entry);
        self.ready.insert(id);
    }

    /// Whether a message with this id was added less than `window` ago.
    pub(super) fn remembers(&mut self, id: MessageId, window: Duration, now: Timestamp) -> bool {
        self.remembered.knows(id, window, now)
    }

    /// How many entries are not settled.
    pub(super) fn depth(&self) -> usize {
        self.entries.len()
    }

    /// Notes that one more entry does not fit.
    pub(super) fn note_full(&mut self) {
        self.full_at = Some(self.depth());
    }

    /// Whether something has left since an entry did not fit; answers `true` once.
    pub(super) fn take_room(&mut self) -> bool {
        let depth = self.depth();
        self.full_at.take_if(|full| depth < *full).is_some()
    }

    /// Hands out up to `max` entries that are ready at `now`, in queue order.
    pub(super) fn take(&mut self, max: usize, holder: Holder, now: Timestamp) -> DequeueReport {
        while let Some(&(until, id)) = self.delayed.first().filter(|(until, _)| *until <= now) {
            self.delayed.remove(&(until, id));
            self.stand(id, Standing::Ready);
        }
        let chosen: Vec<_> = self.ready.iter().take(max).copied().collect();
        let mut report = self.hand_out(&chosen, holder, now);
        report.none_held = self.leased.is_empty();
        report
    }

    /// Hands out up to `max` entries whose lease has ended at `now`, those that ended first.
    pub(super) fn take_over(
        &mut self,
        max: usize,
        holder: Holder,
        now: Timestamp,
    ) -> DequeueReport {
        let ended = self.leased.iter().take_while(|(until, _)| *until <= now);
        let mut chosen: Vec<_> = ended.take(max).map(|(_, id)| *id).collect();
        chosen.sort_unstable();
        for id in &chosen {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.takeovers += 1;
            }
        }
        self.hand_out(&chosen, holder, now)
    }

    /// When the first delayed entry comes due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.delayed.first().map(|(until, _)| *until)
    }

    /// Damages the entry of a message, so that it cannot be read; whether there is one.
    pub(super) fn damage(&mut self, message: MessageId) -> bool {
        let mut entries = self.entries.values_mut();
        let found = entries.find(|entry| entry.message.id == message);
        found.map(|entry| entry.damaged = true).is_some()
    }

    /// When the first lease of anybody but `owner` ends.
    fn next_expiry(&self, owner: WorkerId) -> Option<Timestamp> {
        let others = self.leased.iter().filter(|(_, id)| {
            let receipt = self.entries.get(id).and_then(Entry::receipt);
            receipt.is_some_and(|receipt| receipt.owner != owner)
        });
        others.map(|(until, _)| *until).next()
    }

    /// Settles deliveries, fenced by their receipts.
    pub(super) fn settle(&mut self, settlements: &[DeliverySettlement]) -> SettleReport {
        let mut report = SettleReport::default();
        for (place, DeliverySettlement { receipt, outcome }) in settlements.iter().enumerate() {
            if self.is_live(receipt) {
                self.apply(receipt.entry, outcome);
                report.settled += 1;
            } else {
                report.lost.push(place);
            }
        }
        report
    }

    /// Extends the leases behind `receipts` to `until`; those that are lost.
    pub(super) fn extend(&mut self, receipts: &[Receipt], until: Timestamp) -> Vec<Receipt> {
        let (live, lost): (Vec<Receipt>, _) = receipts.iter().partition(|r| self.is_live(r));
        for receipt in live {
            self.stand(receipt.entry, Standing::Leased { receipt, until });
        }
        lost
    }

    /// Counts what is there.
    pub(super) fn stats(&self, now: Timestamp) -> QueueStats {
        let due = self.delayed.iter().take_while(|(until, _)| *until <= now);
        let due = due.count();
        let receipts = self.entries.values().filter_map(Entry::receipt);
        let owners: HashSet<_> = receipts.map(|receipt| receipt.owner).collect();
        QueueStats {
            ready: (self.ready.len() + due) as u64,
            in_flight: self.leased.len() as u64,
            delayed: (self.delayed.len() - due) as u64,
            quarantined: self.quarantine.len() as u64,
            consumers: owners.len() as u64,
            oldest: self.entries.values().map(|entry| entry.enqueued_at).min(),
        }
    }

    /// What is in quarantine, oldest first.
    pub(super) fn quarantined(&self) -> Vec<Quarantined> {
        self.quarantine.clone()
    }

    fn hand_out(&mut self, chosen: &[EntryId], holder: Holder, now: Timestamp) -> DequeueReport {
        let mut report = DequeueReport::default();
        for id in chosen {
            if self.entries.get(id).is_some_and(|entry| entry.damaged) {
                report.unreadable.extend(self.set_aside(*id, now));
            } else {
                report.deliveries.extend(self.lease(*id, holder));
            }
        }
        report.next_expiry = self.next_expiry(holder.owner);
        report
    }

    fn lease(&mut self, id: EntryId, Holder { owner, until }: Holder) -> Option<Delivery> {
        self.last_token += 1;
        let receipt = Receipt {
            entry: id,
            owner,
            token: self.last_token,
        };
        self.stand(id, Standing::Leased { receipt, until });
        self.entries.get(&id).map(|entry| entry.delivery(receipt))
    }

    /// Moves a damaged entry to quarantine.
    fn set_aside(&mut self, id: EntryId, now: Timestamp) -> Option<Unreadable> {
        let unreadable = self.remove(id)?.unreadable(id, now);
        let told = Unreadable {
            place: unreadable.place.clone(),
            problem: unreadable.error.clone(),
        };
        self.quarantine.push(unreadable);
        Some(told)
    }

    fn is_live(&self, receipt: &Receipt) -> bool {
        let entry = self.entries.get(&receipt.entry);
        entry.and_then(Entry::receipt) == Some(*receipt)
    }

    fn apply(&mut self, id: EntryId, outcome: &DeliveryOutcome) {
        match outcome {
            DeliveryOutcome::Done => {
                self.remove(id);
            }
            DeliveryOutcome::Delay { due_at } => {
                self.stand(id, Standing::Delayed { until: *due_at });
            }
            DeliveryOutcome::Retry { due_at, failure } => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.failed(failure.clone());
                }
                self.stand(id, Standing::Delayed { until: *due_at });
            }
            DeliveryOutcome::Quarantine { failure } => {
                if let Some(mut entry) = self.remove(id) {
                    entry.failed(failure.clone());
                    self.quarantine.push(entry.quarantined(id));
                }
            }
        }
    }

    /// Moves an entry to `standing`, in every index.
    fn stand(&mut self, id: EntryId, standing: Standing) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let before = std::mem::replace(&mut entry.standing, standing);
        self.unindex(id, before);
        match standing {
            Standing::Ready => self.ready.insert(id),
            Standing::Delayed { until } => self.delayed.insert((until, id)),
            Standing::Leased { until, .. } => self.leased.insert((until, id)),
        };
    }

    fn remove(&mut self, id: EntryId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.unindex(id, entry.standing);
        Some(entry)
    }

    fn unindex(&mut self, id: EntryId, standing: Standing) {
        match standing {
            Standing::Ready => self.ready.remove(&id),
            Standing::Delayed { until } => self.delayed.remove(&(until, id)),
            Standing::Leased { until, .. } => self.leased.remove(&(until, id)),
        };
    }
}

impl Entry {
    fn receipt(&self) -> Option<Receipt> {
        match self.standing {
            Standing::Leased { receipt, .. } => Some(receipt),
            Standing::Ready | Standing::Delayed { .. } => None,
        }
    }

    fn delivery(&self, receipt: Receipt) -> Delivery {
        Delivery {
            message: Arc::clone(&self.message),
            receipt,
            attempt: self.failures + 1,
            takeovers: self.takeovers,
            last_failure: self.history.last().cloned().map(Box::new),
            enqueued_at: self.enqueued_at,
        }
    }

    fn failed(&mut self, failure: AttemptRecord) {
        self.failures += 1;
        self.takeovers = 0;
        self.first_failed_at.get_or_insert(failure.at);
        failure.push_to(&mut self.history);
    }

    /// The record of a damaged entry, found at `now`.
    fn unreadable(self, id: EntryId, now: Timestamp) -> Quarantined {
        Quarantined {
            place: id.to_string(),
            message: None,
            attempts: self.failures,
            history: self.history,
            first_failed_at: now,
            last_failed_at: now,
            kind: "unreadable".to_owned(),
            error: "the entry is damaged".to_owned(),
            redrives: self.redrives,
        }
    }

    /// The record of an entry that has failed at least once.
    fn quarantined(self, id: EntryId) -> Quarantined {
        let last = self.history.last().cloned();
        let last_failed_at = last.as_ref().map_or(self.enqueued_at, |failure| failure.at);
        let (kind, error) = last.map_or_else(Default::default, |last| (last.kind, last.error));
        Quarantined {
            place: id.to_string(),
            message: Some(Arc::unwrap_or_clone(self.message)),
            attempts: self.failures,
            history: self.history,
            first_failed_at: self.first_failed_at.unwrap_or(last_failed_at),
            last_failed_at,
            kind,
            error,
            redrives: self.redrives,
        }
    }
}

/// The ids added lately, and when.
#[derive(Debug, Default)]
struct Remembered {
    ids: HashSet<MessageId>,
    by_age: BTreeSet<(Timestamp, MessageId)>,
}

impl Remembered {
    fn knows(&mut self, id: MessageId, window: Duration, now: Timestamp) -> bool {
        while let Some(oldest) = self.by_age.first().copied() {
            if oldest.0 + window > now {
                break;
            }
            self.by_age.remove(&oldest);
            self.ids.remove(&oldest.1);
        }
        self.ids.contains(&id)
    }

    fn remember(&mut self, id: MessageId, now: Timestamp) {
        self.ids.insert(id);
        self.by_age.insert((now, id));
    }
}
