//! Replays what took effect in a simulated world on the specification.

use std::collections::BTreeMap;

use outbox_core::id::WorkerId;
use outbox_core::lease::EntryId;
use outbox_core::testing::{Ending, Step};

use crate::store::{End, Place, Standing, Store};

/// The specification, and which of its parts are which of the world's.
pub(crate) struct Replay {
    pub(crate) store: Store,
    workers: BTreeMap<WorkerId, u64>,
    entries: BTreeMap<EntryId, usize>,
    inbox: bool,
}

impl Replay {
    pub(crate) fn new(inbox: bool) -> Self {
        Self {
            store: Store::new(None),
            workers: BTreeMap::new(),
            entries: BTreeMap::new(),
            inbox,
        }
    }

    fn number(&mut self, worker: WorkerId) -> u64 {
        let next = self.workers.len() as u64;
        *self.workers.entry(worker).or_insert(next)
    }

    /// Takes one step; fails where the specification does not allow it or answers otherwise.
    pub(crate) fn step(&mut self, step: &Step) -> Result<(), String> {
        let agrees = match step {
            Step::Committed { key, .. } => {
                self.store.commit(*key);
                true
            }
            Step::Claimed {
                relay,
                epoch,
                message,
            } => self.claim(*relay, epoch.0, *message as usize),
            Step::Released { relay } => {
                let relay = self.number(*relay);
                self.store.release(relay)
            }
            Step::Enqueued { message, added } => self.store.enqueue(*message as usize) == *added,
            Step::Settled {
                message,
                epoch,
                ending,
                took,
            } => self.store.settle(*message as usize, epoch.0, end(*ending)) == *took,
            Step::SetAside { message } => self.store.set_aside(*message as usize),
            Step::EntrySetAside { message } => self.store.set_entry_aside(*message as usize),
            Step::Delivered {
                worker,
                entry,
                message,
                token,
            } => self.deliver(*worker, (*entry, *token), *message as usize),
            Step::Handled { message } => self.store.handle(*message as usize) || !self.inbox,
            Step::Concluded {
                entry,
                token,
                ending,
                took,
            } => match self.entries.get(entry) {
                Some(entry) => self.store.conclude(*entry, *token, end(*ending)) == *took,
                None => !took,
            },
            _ => true,
        };
        if agrees {
            Ok(())
        } else {
            Err(format!(
                "the specification does not allow {step:?} in {:?}",
                self.store
            ))
        }
    }

    fn claim(&mut self, relay: WorkerId, epoch: u64, message: usize) -> bool {
        let relay = self.number(relay);
        if epoch != self.store.epoch {
            self.store.take_lease(relay);
        }
        let may = self.store.owner == Some(relay)
            && self.store.epoch == epoch
            && self.store.is_claimable(message);
        self.store.claim(message);
        may
    }

    fn deliver(
        &mut self,
        worker: WorkerId,
        (entry, token): (EntryId, u64),
        message: usize,
    ) -> bool {
        let worker = self.number(worker);
        let known = self
            .store
            .entries
            .iter()
            .position(|book| book.message == message);
        let Some(place) = known else { return false };
        let same = *self.entries.entry(entry).or_insert(place) == place;
        let open = matches!(
            self.store.entries[place].place,
            Place::Ready | Place::Held { .. }
        );
        self.store.deliver(place, worker, token);
        same && open
    }

    /// Whether the specification, too, has brought everything to its end.
    pub(crate) fn has_ended(&self) -> bool {
        let left = |standing| matches!(standing, Standing::Published | Standing::Quarantined);
        let open = |place| matches!(place, Place::Ready | Place::Held { .. });
        self.store.rows.iter().all(|row| left(row.standing))
            && !self.store.entries.iter().any(|entry| open(entry.place))
            && self.store.loses_nothing()
            && self.store.keeps_order()
    }
}

fn end(ending: Ending) -> End {
    match ending {
        Ending::Done => End::Done,
        Ending::Retry | Ending::PutBack => End::Back,
        Ending::Quarantine => End::Quarantine,
    }
}
