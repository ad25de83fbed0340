//! Relays and workers that do what they may with the store, in every order, and die.

use stateright::{Model, Property};

use crate::store::{End, Flaw, Place, Standing, Store};

/// How large the model is.
#[derive(Clone, Debug)]
pub(crate) struct System {
    pub(crate) flaw: Option<Flaw>,
    /// The key of each message.
    pub(crate) keys: Vec<Option<u32>>,
    pub(crate) relays: usize,
    pub(crate) workers: usize,
    /// How often a process may die.
    pub(crate) deaths: u8,
    /// How often the outbox' lease may change hands.
    pub(crate) takeovers: u64,
    /// How often entries may be handed out.
    pub(crate) deliveries: u64,
}

/// How far a relay has come with a message that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Held {
    Claimed,
    Sent,
    Refused,
    /// On its way back untried, because one of its key before it was refused.
    Back,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Relay {
    /// Its incarnation: one that begins anew is not its predecessor.
    identity: u64,
    /// Message, epoch, and how far it is; in the order in which they were claimed.
    held: Vec<(usize, u64, Held)>,
}

impl Relay {
    fn begin_anew(&mut self, relays: usize) {
        self.identity += relays as u64;
        self.held.clear();
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    /// Entry, token, and whether it was handled.
    held: Option<(usize, u64, bool)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    store: Store,
    relays: Vec<Relay>,
    workers: Vec<Worker>,
    deaths: u8,
    tokens: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Commit,
    /// A relay claims a message; it takes the lease first where it does not have it.
    Claim {
        relay: usize,
        message: usize,
    },
    Send {
        relay: usize,
        place: usize,
    },
    Refuse {
        relay: usize,
        place: usize,
    },
    Settle {
        relay: usize,
        place: usize,
    },
    Release {
        relay: usize,
    },
    RelayDies {
        relay: usize,
    },
    Take {
        worker: usize,
        entry: usize,
    },
    Handle {
        worker: usize,
    },
    Acknowledge {
        worker: usize,
    },
    WorkerDies {
        worker: usize,
    },
}

impl System {
    fn relay_actions(&self, state: &State, relay: usize, actions: &mut Vec<Action>) {
        let own = &state.relays[relay];
        let store = &state.store;
        let has_lease = store.owner == Some(own.identity);
        for message in 0..store.rows.len() {
            let fresh = !has_lease && store.epoch < self.takeovers;
            let idle = own.held.is_empty();
            if (has_lease && store.is_claimable(message))
                || (fresh && idle && after_takeover(store, message))
            {
                actions.push(Action::Claim { relay, message });
            }
        }
        for (place, (message, _, how)) in own.held.iter().enumerate() {
            let key = store.rows[*message].key;
            let mut before = own.held[..place]
                .iter()
                .filter(|(other, ..)| key.is_some() && store.rows[*other].key == key);
            let turn = before.all(|(_, _, how)| {
                *how == Held::Sent || (*how == Held::Refused && store.has(Flaw::GoesOnAfterRefusal))
            });
            if *how == Held::Claimed {
                if turn || store.has(Flaw::SendsOutOfTurn) {
                    actions.push(Action::Send { relay, place });
                }
                if turn && state.deaths < self.deaths {
                    actions.push(Action::Refuse { relay, place });
                }
            }
            if *how != Held::Claimed || store.has(Flaw::SettlesUnsent) {
                actions.push(Action::Settle { relay, place });
            }
        }
        if has_lease && own.held.is_empty() {
            actions.push(Action::Release { relay });
        }
        if !own.held.is_empty() && state.deaths < self.deaths {
            actions.push(Action::RelayDies { relay });
        }
    }

    fn worker_actions(&self, state: &State, worker: usize, actions: &mut Vec<Action>) {
        let Some((_, _, handled)) = state.workers[worker].held else {
            for (entry, book) in state.store.entries.iter().enumerate() {
                let open = matches!(book.place, Place::Ready | Place::Held { .. });
                if open && state.tokens < self.deliveries {
                    actions.push(Action::Take { worker, entry });
                }
            }
            return;
        };
        if !handled {
            actions.push(Action::Handle { worker });
        }
        if handled || state.store.has(Flaw::AcksFirst) {
            actions.push(Action::Acknowledge { worker });
        }
        if state.deaths < self.deaths {
            actions.push(Action::WorkerDies { worker });
        }
    }
}

/// Whether a message is claimable once the lease has gone to another.
fn after_takeover(store: &Store, message: usize) -> bool {
    let mut store = store.clone();
    store.take_lease(u64::MAX);
    store.is_claimable(message)
}

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            store: Store::new(self.flaw),
            relays: (0..self.relays as u64)
                .map(|identity| Relay {
                    identity,
                    held: Vec::new(),
                })
                .collect(),
            workers: vec![Worker::default(); self.workers],
            deaths: 0,
            tokens: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.store.rows.len() < self.keys.len() {
            actions.push(Action::Commit);
        }
        (0..self.relays).for_each(|relay| self.relay_actions(state, relay, actions));
        (0..self.workers).for_each(|worker| self.worker_actions(state, worker, actions));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        match action {
            Action::Commit => {
                let key = self.keys[next.store.rows.len()];
                next.store.commit(key);
            }
            Action::Take { .. }
            | Action::Handle { .. }
            | Action::Acknowledge { .. }
            | Action::WorkerDies { .. } => next.work(action)?,
            _ => next.relay(action, self.relays),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing committed is lost", |_, state: &State| {
                state.store.loses_nothing()
            }),
            Property::always("each key keeps its order", |_, state: &State| {
                state.store.keeps_order()
            }),
            Property::always("each effect exists once", |_, state: &State| {
                state.store.rows.iter().all(|row| row.effects <= 1)
            }),
            Property::always(
                "nothing is acknowledged before it is handled",
                |_, state: &State| state.store.entries.iter().all(|entry| !entry.hollow),
            ),
            Property::always("the queue adds a message once", |_, state: &State| {
                let entries = &state.store.entries;
                let twice = |(place, one): (usize, &crate::store::Entry)| {
                    entries[..place]
                        .iter()
                        .any(|other| other.message == one.message)
                };
                !entries.iter().enumerate().any(twice)
            }),
            Property::always("a stale token changes nothing", |_, state: &State| {
                state.is_fenced()
            }),
            Property::sometimes("everything ends", |system: &System, state: &State| {
                let rows = &state.store.rows;
                rows.len() == system.keys.len()
                    && rows.iter().all(|row| row.effects == 1)
                    && state
                        .store
                        .entries
                        .iter()
                        .all(|entry| entry.place == Place::Gone)
            }),
        ]
    }
}

impl State {
    /// What a relay does.
    fn relay(&mut self, action: Action, relays: usize) {
        let next = self;
        let store = &mut next.store;
        match action {
            Action::Claim { relay, message } => {
                let identity = next.relays[relay].identity;
                if store.owner != Some(identity) {
                    store.take_lease(identity);
                }
                store.claim(message);
                let how = next.held_as(relay, message);
                next.relays[relay]
                    .held
                    .push((message, next.store.epoch, how));
            }
            Action::Send { relay, place } => {
                let held = &mut next.relays[relay].held[place];
                held.2 = Held::Sent;
                let (message, epoch) = (held.0, held.1);
                let known = |store: &Store| store.entries.iter().any(|one| one.message == message);
                if !store.enqueue_fenced(message, epoch) && !known(store) {
                    // Refused as stale: this relay is over.
                    next.relays[relay].begin_anew(relays);
                }
            }
            Action::Refuse { relay, place } => {
                next.deaths += 1;
                next.relays[relay].held[place].2 = Held::Refused;
                for place in place + 1..next.relays[relay].held.len() {
                    let (message, _, how) = next.relays[relay].held[place];
                    if how == Held::Claimed {
                        next.relays[relay].held[place].2 = next.held_as(relay, message);
                    }
                }
            }
            Action::Settle { relay, place } => {
                let (message, epoch, how) = next.relays[relay].held.remove(place);
                let end = match how {
                    Held::Refused => End::Quarantine,
                    Held::Back => End::Back,
                    Held::Claimed | Held::Sent => End::Done,
                };
                store.settle(message, epoch, end);
            }
            Action::Release { relay } => {
                store.release(next.relays[relay].identity);
            }
            Action::RelayDies { relay } => {
                next.relays[relay].begin_anew(relays);
                next.deaths += 1;
            }
            _ => {}
        }
    }

    /// What a worker does; `None` where it cannot.
    fn work(&mut self, action: Action) -> Option<()> {
        let next = self;
        let store = &mut next.store;
        match action {
            Action::Take { worker, entry } => {
                next.tokens += 1;
                store.deliver(entry, worker as u64, next.tokens);
                next.workers[worker].held = Some((entry, next.tokens, false));
            }
            Action::Handle { worker } => {
                if let Some(held) = &mut next.workers[worker].held {
                    store.handle(store.entries[held.0].message);
                    held.2 = true;
                }
            }
            Action::Acknowledge { worker } => {
                let (entry, token, _) = next.workers[worker].held.take()?;
                store.conclude(entry, token, End::Done);
            }
            Action::WorkerDies { worker } => {
                next.workers[worker] = Worker::default();
                next.deaths += 1;
            }
            _ => {}
        }
        Some(())
    }

    /// How a relay holds a message that it is handed: one behind a refused one of its key goes back.
    fn held_as(&self, relay: usize, message: usize) -> Held {
        let key = self.store.rows[message].key;
        let mut held = self.relays[relay].held.iter();
        let behind = held.any(|(other, _, how)| {
            let failed = matches!(how, Held::Refused | Held::Back);
            failed && key.is_some() && *other < message && self.store.rows[*other].key == key
        });
        if behind && !self.store.has(Flaw::GoesOnAfterRefusal) {
            Held::Back
        } else {
            Held::Claimed
        }
    }

    /// Whether what a living process holds under a live token is still its own: claimed, and in
    /// nobody else's hands.
    fn is_fenced(&self) -> bool {
        let store = &self.store;
        let claimed = |message: usize| {
            let standing = store.rows[message].standing;
            standing == Standing::Claimed { epoch: store.epoch }
        };
        let relays = self.relays.iter().all(|relay| {
            let owns = store.owner == Some(relay.identity);
            let mut live = relay
                .held
                .iter()
                .filter(|(_, epoch, _)| *epoch == store.epoch);
            live.all(|(message, ..)| claimed(*message) == owns)
        });
        let workers = self.workers.iter().enumerate().all(|(worker, own)| {
            own.held
                .is_none_or(|(entry, token, _)| match store.entries[entry].place {
                    Place::Held {
                        worker: owner,
                        token: current,
                    } => current != token || owner == worker as u64,
                    // Gone although its holder has not settled it: then somebody had it after him.
                    _ => self.tokens > token,
                })
        });
        relays && workers
    }
}
