//! What outbox, queue, quarantine and inbox do with a call, and nothing else: the specification in
//! its smallest form. The model checks it in every order of calls, and traces of simulated runs are
//! replayed on it.

use std::collections::BTreeSet;

/// A rule that the store does not keep; the checker has to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flaw {
    /// A settlement is accepted whatever lease its token is of.
    StaleRelaySettles,
    /// An acknowledgement is accepted whatever delivery its token is of.
    StaleWorkerSettles,
    /// A lease that is taken over keeps its epoch.
    EpochStays,
    /// A message is claimed although an earlier one of its key waits.
    KeyNotHeld,
    /// The queue adds a message again that it has.
    EnqueueForgets,
    /// The queue takes messages of any epoch, from a relay that is stale, too: order is kept only as
    /// far as what one relay gives up no other brings.
    SinkDoesNotFence,
    /// The effect is not recorded in the inbox.
    NoInbox,
    /// A relay settles what it has not sent.
    SettlesUnsent,
    /// A relay sends a message whose predecessor it has not sent.
    SendsOutOfTurn,
    /// A worker acknowledges before it handles.
    AcksFirst,
    /// A relay goes on with a key although the refusal of its predecessor is not recorded.
    GoesOnAfterRefusal,
}

/// Where a message of the outbox stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    Waiting,
    Claimed { epoch: u64 },
    Published,
    Quarantined,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) key: Option<u32>,
    pub(crate) standing: Standing,
    pub(crate) effects: u8,
}

/// Where an entry of the queue stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Ready,
    Held { worker: u64, token: u64 },
    Gone,
    Quarantined,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) message: usize,
    pub(crate) place: Place,
    /// Whether it was acknowledged with no effect behind it.
    pub(crate) hollow: bool,
}

/// What a settlement is to make of a message or an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Done,
    Back,
    Quarantine,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) flaw: Option<Flaw>,
    pub(crate) rows: Vec<Row>,
    pub(crate) owner: Option<u64>,
    pub(crate) epoch: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) inbox: BTreeSet<usize>,
    /// The newest epoch that the queue has seen.
    seen: u64,
}

impl Store {
    pub(crate) fn new(flaw: Option<Flaw>) -> Self {
        Self {
            flaw,
            rows: Vec::new(),
            owner: None,
            epoch: 0,
            entries: Vec::new(),
            inbox: BTreeSet::new(),
            seen: 0,
        }
    }

    pub(crate) fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    pub(crate) fn commit(&mut self, key: Option<u32>) {
        let standing = Standing::Waiting;
        self.rows.push(Row {
            key,
            standing,
            effects: 0,
        });
    }

    /// Takes the lease, which nobody has or whose time is over.
    pub(crate) fn take_lease(&mut self, relay: u64) {
        self.owner = Some(relay);
        if !self.has(Flaw::EpochStays) || self.epoch == 0 {
            self.epoch += 1;
        }
    }

    /// Whether the holder of the lease may be handed this message now.
    pub(crate) fn is_claimable(&self, message: usize) -> bool {
        let Some(row) = self.rows.get(message) else {
            return false;
        };
        let free = match row.standing {
            Standing::Waiting => true,
            Standing::Claimed { epoch } => epoch < self.epoch,
            Standing::Published | Standing::Quarantined => false,
        };
        let clear = self.has(Flaw::KeyNotHeld)
            || self.earlier(message).all(|row| {
                matches!(row.standing, Standing::Published | Standing::Quarantined)
                    || row.standing == Standing::Claimed { epoch: self.epoch }
            });
        free && clear
    }

    fn earlier(&self, message: usize) -> impl Iterator<Item = &Row> {
        let key = self.rows[message].key;
        let rows = self.rows[..message].iter();
        rows.filter(move |row| key.is_some() && row.key == key)
    }

    pub(crate) fn claim(&mut self, message: usize) {
        let epoch = self.epoch;
        self.rows[message].standing = Standing::Claimed { epoch };
    }

    /// Settles a claimed message; whether that took effect.
    pub(crate) fn settle(&mut self, message: usize, epoch: u64, end: End) -> bool {
        let row = &mut self.rows[message];
        let live = epoch == self.epoch && row.standing == Standing::Claimed { epoch };
        let flawed = self.flaw == Some(Flaw::StaleRelaySettles)
            && matches!(row.standing, Standing::Claimed { .. } | Standing::Waiting);
        if !live && !flawed {
            return false;
        }
        row.standing = match end {
            End::Done => Standing::Published,
            End::Back => Standing::Waiting,
            End::Quarantine => Standing::Quarantined,
        };
        true
    }

    /// Moves a row that nobody can read to quarantine, in its turn; whether there was one to move.
    pub(crate) fn set_aside(&mut self, message: usize) -> bool {
        let row = &mut self.rows[message];
        let open = matches!(row.standing, Standing::Waiting | Standing::Claimed { .. });
        row.standing = Standing::Quarantined;
        open
    }

    /// Moves an entry that nobody can read to quarantine; whether there was one to move.
    pub(crate) fn set_entry_aside(&mut self, message: usize) -> bool {
        let open = |place| matches!(place, Place::Ready | Place::Held { .. });
        let mut entries = self.entries.iter_mut();
        let entry = entries.find(|entry| entry.message == message && open(entry.place));
        entry
            .map(|entry| entry.place = Place::Quarantined)
            .is_some()
    }

    /// Gives the lease of `relay` back; whether it had it.
    pub(crate) fn release(&mut self, relay: u64) -> bool {
        if self.owner != Some(relay) {
            return false;
        }
        self.owner = None;
        for row in &mut self.rows {
            if matches!(row.standing, Standing::Claimed { .. }) {
                row.standing = Standing::Waiting;
            }
        }
        true
    }

    /// As [`Store::enqueue`], where the queue refuses what comes from a stale relay.
    pub(crate) fn enqueue_fenced(&mut self, message: usize, epoch: u64) -> bool {
        if epoch < self.seen && !self.has(Flaw::SinkDoesNotFence) {
            return false;
        }
        self.seen = self.seen.max(epoch);
        self.enqueue(message)
    }

    /// Adds a message to the queue, unless it knows it; whether it was added.
    pub(crate) fn enqueue(&mut self, message: usize) -> bool {
        let known = self.entries.iter().any(|entry| entry.message == message);
        if known && !self.has(Flaw::EnqueueForgets) {
            return false;
        }
        let (place, hollow) = (Place::Ready, false);
        self.entries.push(Entry {
            message,
            place,
            hollow,
        });
        true
    }

    /// Hands an entry to a worker: one that is ready, or whose holder's time is over.
    pub(crate) fn deliver(&mut self, entry: usize, worker: u64, token: u64) {
        self.entries[entry].place = Place::Held { worker, token };
    }

    /// Commits the effect of a message with its inbox record; whether there was one to commit.
    pub(crate) fn handle(&mut self, message: usize) -> bool {
        if self.inbox.contains(&message) {
            return false;
        }
        if !self.has(Flaw::NoInbox) {
            self.inbox.insert(message);
        }
        let effects = &mut self.rows[message].effects;
        *effects = effects.saturating_add(1);
        true
    }

    /// Settles a delivery; whether that took effect.
    pub(crate) fn conclude(&mut self, entry: usize, token: u64, end: End) -> bool {
        let message = self.entries[entry].message;
        let effects = self.rows[message].effects;
        let flawed = self.has(Flaw::StaleWorkerSettles);
        let entry = &mut self.entries[entry];
        let Place::Held { token: current, .. } = entry.place else {
            return false;
        };
        if current != token && !flawed {
            return false;
        }
        entry.hollow = end == End::Done && effects == 0;
        entry.place = match end {
            End::Done => Place::Gone,
            End::Back => Place::Ready,
            End::Quarantine => Place::Quarantined,
        };
        true
    }

    /// Whether entries of each key stand in commit order.
    pub(crate) fn keeps_order(&self) -> bool {
        self.entries.iter().enumerate().all(|(place, entry)| {
            let key = self.rows[entry.message].key;
            let before = self.entries[..place].iter();
            before
                .filter(|other| key.is_some() && self.rows[other.message].key == key)
                .all(|other| other.message < entry.message)
        })
    }

    /// Whether everything that left the outbox as published has been in the queue.
    pub(crate) fn loses_nothing(&self) -> bool {
        let published = |row: &Row| row.standing == Standing::Published;
        let rows = self.rows.iter().enumerate();
        let mut published = rows.filter(|(_, row)| published(row));
        published.all(|(message, _)| self.entries.iter().any(|entry| entry.message == message))
    }
}
