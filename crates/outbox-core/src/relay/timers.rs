use std::time::Duration;

use crate::policy::Pause;
use crate::time::Timestamp;

use super::RelayConfig;

/// When the relay has to look up although nothing happened.
pub(super) struct Timers {
    /// When they were looked at last.
    read: Timestamp,
    /// A due time, or the end of another relay's lease.
    pub(super) due: Option<Timestamp>,
    /// The next claim that nothing asks for.
    pub(super) poll: Timestamp,
    /// The next purge.
    pub(super) purge: Timestamp,
    /// The next extension of the lease, where something is claimed.
    pub(super) heartbeat: Option<Timestamp>,
    /// The store failed to extend the lease: it is not asked again before.
    not_extended_before: Timestamp,
    /// When the lease is given back, where there is nothing to do meanwhile.
    pub(super) give_back: Option<Timestamp>,
    /// The rest that a store gets when it failed.
    pub(super) rest: Pause,
}

impl Timers {
    pub(super) fn new(now: Timestamp, config: &RelayConfig) -> Self {
        Self {
            read: now,
            due: None,
            poll: now + config.safety_poll,
            purge: now + config.purge_interval,
            heartbeat: None,
            not_extended_before: now,
            give_back: None,
            rest: Pause::default(),
        }
    }

    /// Has everything looked at that waits for a moment, where the clock was set back since the last
    /// time: nobody knows how far away such a moment is.
    pub(super) fn read(&mut self, now: Timestamp) {
        if now < self.read {
            self.poll = now;
            self.purge = now;
            self.heartbeat = self.heartbeat.map(|_| now);
            self.not_extended_before = now;
            self.give_back = None;
        }
        self.read = now;
    }

    /// Notes that messages were claimed, where there were none before, under a lease that ends at
    /// `until`.
    pub(super) fn claimed(&mut self, until: Timestamp, lease: Duration) {
        self.heartbeat = Some(until - lease / 3 * 2);
        self.give_back = None;
    }

    /// Has the lease extended as soon as the store may be asked.
    pub(super) fn extend_soon(&mut self, now: Timestamp) {
        self.heartbeat = Some(now.max(self.not_extended_before));
    }

    /// Notes that the store failed to extend the lease, which it is asked for again soon.
    pub(super) fn not_extended(&mut self, now: Timestamp, lease: Duration) {
        self.not_extended_before = now + lease / 10;
        self.heartbeat = Some(self.not_extended_before);
    }

    /// Notes that something will be due at `at`.
    pub(super) fn due_at(&mut self, at: Timestamp) {
        self.due = Some(self.due.map_or(at, |known| known.min(at)));
    }

    /// The earliest moment that anything asks for which is not attended to, `other` among it.
    pub(super) fn next(
        &self,
        now: Timestamp,
        attended: &Attended,
        other: Option<Timestamp>,
    ) -> Timestamp {
        let unless = |busy: bool, at: Option<Timestamp>| if busy { None } else { at };
        [
            unless(attended.claim, self.due),
            unless(attended.claim, Some(self.poll)),
            unless(attended.purge, Some(self.purge)),
            unless(attended.heartbeat, self.heartbeat),
            unless(attended.give_back, self.give_back),
            self.rest.until(now),
            other,
        ]
        .into_iter()
        .flatten()
        .fold(Timestamp::MAX, Timestamp::min)
    }
}

/// What is being done already, so that its timer need not wake anyone.
pub(super) struct Attended {
    pub(super) claim: bool,
    pub(super) purge: bool,
    pub(super) heartbeat: bool,
    pub(super) give_back: bool,
}
