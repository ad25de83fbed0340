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
    /// How often leases may change hands, and entries be handed out.
    pub(crate) takeovers: u64,
}

/// How far a relay has come with a message that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Held {
    Claimed,
    Sent,
    Refused,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Relay {
    /// Message, epoch, and how far it is; in the order in which they were claimed.
    held: Vec<(usize, u64, Held)>,
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
        let has_lease = store.owner == Some(relay as u64);
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
                if open && state.tokens < self.takeovers {
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
            relays: vec![Relay::default(); self.relays],
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
        let store = &mut next.store;
        match action {
            Action::Commit => store.commit(self.keys[store.rows.len()]),
            Action::Claim { relay, message } => {
                if store.owner != Some(relay as u64) {
                    store.take_lease(relay as u64);
                }
                store.claim(message);
                next.relays[relay]
                    .held
                    .push((message, store.epoch, Held::Claimed));
            }
            Action::Send { relay, place } => {
                let held = &mut next.relays[relay].held[place];
                held.2 = Held::Sent;
                store.enqueue(held.0);
            }
            Action::Refuse { relay, place } => {
                next.relays[relay].held[place].2 = Held::Refused;
                next.deaths += 1;
            }
            Action::Settle { relay, place } => {
                let (message, epoch, how) = next.relays[relay].held.remove(place);
                let end = if how == Held::Refused {
                    End::Quarantine
                } else {
                    End::Done
                };
                store.settle(message, epoch, end);
            }
            Action::Release { relay } => {
                store.release(relay as u64);
            }
            Action::RelayDies { relay } => {
                next.relays[relay] = Relay::default();
                next.deaths += 1;
            }
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
    /// Whether what a living process holds under a live token is still its own: claimed, and in
    /// nobody else's hands.
    fn is_fenced(&self) -> bool {
        let store = &self.store;
        let mut live = self
            .relays
            .iter()
            .enumerate()
            .flat_map(|(relay, own)| own.held.iter().map(move |held| (relay as u64, held)));
        let relays = live.all(|(relay, (message, epoch, _))| {
            store.owner != Some(relay)
                || *epoch != store.epoch
                || store.rows[*message].standing == Standing::Claimed { epoch: *epoch }
        });
        let strangers = self.relays.iter().enumerate().all(|(relay, own)| {
            store.owner == Some(relay as u64)
                || own.held.iter().all(|(message, epoch, _)| {
                    *epoch != store.epoch
                        || store.rows[*message].standing != Standing::Claimed { epoch: *epoch }
                })
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
        relays && strangers && workers
    }
}
