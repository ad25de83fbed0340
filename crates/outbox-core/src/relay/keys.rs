use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::delivery::Leased;

/// Keeps each ordering key's order among the messages that a relay holds in memory.
///
/// The outbox holds back a key whose earlier message waits, but it learns of a failure only when
/// that is settled: until then, and for claims that began before, the guard holds the key back.
#[derive(Default)]
pub(super) struct KeyGuard {
    /// Keys with messages that were put back.
    blocked: HashMap<String, Blocked>,
    /// Keys in flight, where a message's destination can differ from its predecessor's.
    routed: BTreeMap<String, Routed>,
}

struct Blocked {
    /// How many of its messages are on their way back.
    pending: usize,
    /// The first claim that began after all of them were back.
    known_from: u64,
}

struct Routed {
    destination: String,
    held: usize,
    deferred: VecDeque<Leased>,
}

impl KeyGuard {
    /// Holds `key` back: one of its messages goes back to the outbox.
    pub(super) fn block(&mut self, key: &str) {
        match self.blocked.get_mut(key) {
            Some(blocked) => blocked.pending += 1,
            None => {
                self.blocked.insert(
                    key.to_owned(),
                    Blocked {
                        pending: 1,
                        known_from: 0,
                    },
                );
            }
        }
    }

    pub(super) fn is_blocked(&self, key: &str) -> bool {
        !self.blocked.is_empty() && self.blocked.contains_key(key)
    }

    pub(super) fn has_blocked(&self) -> bool {
        !self.blocked.is_empty()
    }

    /// Whether messages are on their way back to the outbox.
    pub(super) fn awaits_return(&self) -> bool {
        self.blocked.values().any(|blocked| blocked.pending > 0)
    }

    /// One message of `key` is back in the outbox: claims from number `next_claim` on know of it.
    pub(super) fn settled(&mut self, key: &str, next_claim: u64) {
        if let Some(blocked) = self.blocked.get_mut(key) {
            blocked.pending = blocked.pending.saturating_sub(1);
            blocked.known_from = next_claim;
        }
    }

    /// The messages of claim number `claim` are about to be looked at.
    pub(super) fn claim_arrived(&mut self, claim: u64) {
        self.blocked
            .retain(|_, blocked| blocked.pending > 0 || blocked.known_from > claim);
    }

    /// Admits a keyed message to its destination, or keeps it until its predecessors at another
    /// destination are done.
    pub(super) fn admit(&mut self, leased: Leased, destination: &str) -> Option<Leased> {
        let Some(key) = leased.message.ordering_key.as_deref() else {
            return Some(leased);
        };
        match self.routed.get_mut(key) {
            None => {
                let routed = Routed {
                    destination: destination.to_owned(),
                    held: 1,
                    deferred: VecDeque::new(),
                };
                self.routed.insert(key.to_owned(), routed);
                Some(leased)
            }
            Some(routed) if routed.destination == destination && routed.deferred.is_empty() => {
                routed.held += 1;
                Some(leased)
            }
            Some(routed) => {
                routed.deferred.push_back(leased);
                None
            }
        }
    }

    /// A message of `key` has left its lane; answers those that waited for it, where it was the
    /// last, or where the key is held back: it may be free again before the last one has left, and
    /// what waits must not pass by what went back.
    pub(super) fn leave(&mut self, key: &str) -> VecDeque<Leased> {
        let blocked = self.is_blocked(key);
        let Some(routed) = self.routed.get_mut(key) else {
            return VecDeque::new();
        };
        routed.held -= 1;
        if routed.held > 0 {
            return match blocked {
                true => std::mem::take(&mut routed.deferred),
                false => VecDeque::new(),
            };
        }
        self.routed
            .remove(key)
            .map(|routed| routed.deferred)
            .unwrap_or_default()
    }

    /// How many messages wait for predecessors at another destination.
    pub(super) fn deferred(&self) -> usize {
        self.routed
            .values()
            .map(|routed| routed.deferred.len())
            .sum()
    }

    /// Takes all messages that wait for predecessors, to give them back.
    pub(super) fn drain_deferred(&mut self) -> Vec<Leased> {
        self.routed
            .values_mut()
            .flat_map(|routed| std::mem::take(&mut routed.deferred))
            .collect()
    }
}
