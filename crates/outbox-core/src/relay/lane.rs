use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::delivery::Leased;
use crate::lease::LeaseToken;
use crate::message::Message;
use crate::policy::{Breaker, BreakerConfig, BreakerState, Permission};
use crate::status::Ordering;
use crate::time::Timestamp;

use super::RelayConfig;
use super::keys::KeyGuard;

/// How long a call may take before its lane no longer holds up claims for other lanes.
pub(super) const PATIENCE: Duration = Duration::from_millis(25);

/// The way to one destination: its queue, its breaker, and how much fits in one call.
pub(super) struct Lane {
    queue: VecDeque<Leased>,
    breaker: Breaker,
    /// Keys in calls that are under way; used only where calls may overlap.
    busy_keys: HashSet<String>,
    calls: usize,
    limit: usize,
    /// The greatest that the limit may be.
    ceiling: usize,
    /// When a call began or came back last.
    moved_at: Timestamp,
    /// The number of the next call.
    next_call: u64,
    /// The first call that counts as another failure than the last one.
    counts_from: u64,
}

/// One call to a publisher: messages, and beside each what is needed to settle it.
pub(super) struct Batch {
    pub(super) messages: Vec<Message>,
    pub(super) held: Vec<Held>,
    /// Which call of its lane this is.
    pub(super) number: u64,
    /// Whether this is a breaker's trial.
    pub(super) trial: bool,
}

/// The proof and the attempt number of a message that is on its way.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) token: LeaseToken,
    pub(super) attempt: u32,
}

impl Batch {
    fn of(leased: Vec<Leased>, number: u64, trial: bool) -> Self {
        let (held, messages) = leased
            .into_iter()
            .map(|l| {
                (
                    Held {
                        token: l.token,
                        attempt: l.attempt,
                    },
                    l.message,
                )
            })
            .unzip();
        Self {
            messages,
            held,
            number,
            trial,
        }
    }
}

impl Lane {
    pub(super) fn new(breaker: BreakerConfig, ceiling: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            breaker: Breaker::new(breaker),
            busy_keys: HashSet::new(),
            calls: 0,
            limit: ceiling,
            ceiling,
            moved_at: Timestamp::EPOCH,
            next_call: 0,
            counts_from: 0,
        }
    }

    pub(super) fn push(&mut self, leased: Leased) {
        self.queue.push_back(leased);
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn breaker(&mut self) -> &mut Breaker {
        &mut self.breaker
    }

    /// Whether the destination named the time for which nothing is sent to it.
    pub(super) fn waits_as_told(&self, now: Timestamp) -> bool {
        self.breaker.waits_as_told(now)
    }

    /// When the destination may be tried again, where it may not be now.
    pub(super) fn closed_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.breaker.closed_until(now)
    }

    /// Whether a trial is to be made before anything else is sent.
    pub(super) fn wants_trial(&self, now: Timestamp) -> bool {
        self.breaker.state() != BreakerState::Closed && self.closed_until(now).is_none()
    }

    /// Whether messages wait for a call that takes longer than those of a lively destination.
    pub(super) fn is_stalled(&self, now: Timestamp) -> bool {
        self.calls > 0 && !self.queue.is_empty() && now.since(self.moved_at) >= PATIENCE
    }

    /// The next call that may be made now.
    pub(super) fn next_batch(
        &mut self,
        now: Timestamp,
        ordering: Ordering,
        (concurrency, depth): (usize, usize),
    ) -> Option<Batch> {
        if self.queue.is_empty() {
            return None;
        }
        let relies = concurrency == 1 && self.may_rely(ordering, depth);
        if self.calls >= concurrency && !relies {
            return None;
        }
        let trial = match self.breaker.permit(now) {
            Permission::Granted => false,
            Permission::Trial => true,
            Permission::Denied { .. } => return None,
        };
        let limit = if trial { 1 } else { self.limit };
        let leased = if concurrency == 1 && ordering >= Ordering::PerKey {
            self.queue.drain(..limit.min(self.queue.len())).collect()
        } else {
            self.take_disjoint(limit, ordering)
        };
        if leased.is_empty() {
            return None;
        }
        self.calls += 1;
        self.moved_at = now;
        let number = self.next_call;
        self.next_call += 1;
        Some(Batch::of(leased, number, trial))
    }

    /// Whether a call may be made that relies on those under way. Only a full batch of a lane that was
    /// never slow: of two calls that hang, one hangs behind the other, and a message that is alone in
    /// it would be charged for that.
    fn may_rely(&self, ordering: Ordering, depth: usize) -> bool {
        self.calls < depth
            && ordering >= Ordering::PerKey
            && self.breaker.state() == BreakerState::Closed
            && self.limit == self.ceiling
            && self.limit > 1
            && self.queue.len() >= self.limit
    }

    /// Takes messages whose keys are in no other call and, where the publisher keeps no order, only
    /// one of each key; the rest keep their places.
    fn take_disjoint(&mut self, limit: usize, ordering: Ordering) -> Vec<Leased> {
        let mut taken = Vec::new();
        let mut left = VecDeque::new();
        let mut own_keys = HashSet::new();
        let mut passed_over = HashSet::new();
        for leased in self.queue.drain(..) {
            let fits = taken.len() < limit
                && leased.message.ordering_key.as_ref().is_none_or(|key| {
                    !self.busy_keys.contains(key)
                        && !passed_over.contains(key)
                        && (ordering >= Ordering::PerKey || !own_keys.contains(key))
                });
            if fits {
                own_keys.extend(leased.message.ordering_key.clone());
                taken.push(leased);
            } else {
                passed_over.extend(leased.message.ordering_key.clone());
                left.push_back(leased);
            }
        }
        self.queue = left;
        self.busy_keys.extend(own_keys);
        taken
    }

    /// A call came back.
    pub(super) fn returned(&mut self, messages: &[Message], now: Timestamp) {
        self.calls -= 1;
        self.moved_at = now;
        if !self.busy_keys.is_empty() {
            for key in messages
                .iter()
                .filter_map(|message| message.ordering_key.as_ref())
            {
                self.busy_keys.remove(key);
            }
        }
    }

    /// Adapts the size of the next call to how long the last one took.
    pub(super) fn adapt(&mut self, took: Duration, sent: usize, config: &RelayConfig) {
        if took > config.target_latency {
            self.limit = (self.limit / 2).max(config.batch_floor);
        } else if sent >= self.limit {
            self.limit = (self.limit * 2).min(config.batch_ceiling);
        }
    }

    /// Call number `call`, of `sent` messages, hung or died: the next ones are much smaller, so that
    /// one message that causes it is soon alone. Of calls that rely on each other one hangs behind the
    /// other: they are one failure.
    pub(super) fn broke(&mut self, call: u64, sent: usize, concurrency: usize, now: Timestamp) {
        self.limit = (sent / 8).max(1);
        if concurrency > 1 || call >= self.counts_from {
            self.counts_from = self.next_call;
            self.breaker.failed(now);
        }
    }

    /// Takes everything that waits in the lane.
    pub(super) fn drain(&mut self) -> Vec<Leased> {
        self.queue.drain(..).collect()
    }

    /// Takes the waiting messages whose keys are held back.
    pub(super) fn drain_blocked(&mut self, guard: &KeyGuard) -> Vec<Leased> {
        let blocked = |leased: &Leased| {
            leased
                .message
                .ordering_key
                .as_deref()
                .is_some_and(|key| guard.is_blocked(key))
        };
        if !self.queue.iter().any(blocked) {
            return Vec::new();
        }
        let (taken, left): (Vec<_>, _) = self.queue.drain(..).partition(blocked);
        self.queue = VecDeque::from(left);
        taken
    }
}
