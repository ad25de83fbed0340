//! What the relay learns from work that is done.

use crate::delivery::Leased;
use crate::error::{OutboxError, Result};
use crate::lease::LeaseToken;
use crate::ports::Outcome;
use crate::report::{ClaimReport, Fate, OutboxStats};
use crate::time::Timestamp;

use super::super::lane::Lane;
use super::{Engine, Event};

impl Engine<'_> {
    pub(super) fn on_event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Claimed(number, at, report) => {
                self.claim.running = false;
                match self.store_answer("claim", report)? {
                    Some(report) => self.on_claimed(number, at, report),
                    None => {
                        self.claim.wanted = true;
                        self.claim.unknown = true;
                    }
                }
            }
            Event::Published(call) => self.on_published(call),
            Event::Settled(settlements, report) => {
                self.busy.settling = false;
                match self.store_answer("settle", report)? {
                    Some(report) => self.on_settled(&report),
                    None => self.settle_again(settlements),
                }
            }
            Event::Extended(tokens, until, report) => {
                self.busy.extending = false;
                self.on_extended(tokens, until, report);
            }
            Event::Released(report) => {
                self.busy.releasing = false;
                if self.store_answer("release", report)?.is_some() {
                    self.claim.unknown = false;
                }
            }
            Event::Purged(report) => {
                self.busy.purging = false;
                self.on_purged(report);
            }
            Event::Counted(report) => {
                self.busy.counting = false;
                if let Some(stats) = self.store_answer("count", report)? {
                    self.on_counted(stats);
                }
            }
            Event::Told => self.desk.told(),
        }
        Ok(())
    }

    /// Takes a store's answer apart: an error makes the relay pause, or ends it where no pause helps.
    fn store_answer<T>(&mut self, operation: &str, answer: Result<T>) -> Result<Option<T>> {
        match answer {
            Ok(value) => {
                self.timers.rest.answered();
                self.drain.error = None;
                Ok(Some(value))
            }
            Err(error @ OutboxError::Backend { .. }) => {
                tracing::warn!(operation, %error, "outbox failed; trying again");
                self.timers.rest.failed(self.relay.clock.now());
                self.drain.error = Some(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn on_claimed(&mut self, number: u64, at: Timestamp, report: ClaimReport) {
        self.guard.claim_arrived(number);
        self.drain.counted = false;
        self.report.tally.quarantined += report.unreadable.len() as u64;
        for unreadable in &report.unreadable {
            tracing::error!(
                place = unreadable.place,
                problem = unreadable.problem,
                "unreadable"
            );
        }
        if let Some(due) = report.next_due {
            self.timers.due_at(due);
        }
        if report.more || !report.leased.is_empty() {
            self.claim.wanted = true;
        }
        let Some(first) = report.leased.first() else {
            return;
        };
        self.claim.holding = true;
        let lease = self.relay.config.lease;
        // Only a claim that takes a lease sets its end: others are made under the one that is held.
        if first.token.epoch != self.epoch {
            self.epoch = first.token.epoch;
            self.lease_until = at + lease;
        }
        if self.unsettled.is_empty() {
            self.timers.claimed(self.lease_until, lease);
        }
        let mut untimely = Vec::new();
        for leased in report.leased {
            self.unsettled.claimed(leased.token, self.busy.extending);
            self.take_in(leased, &mut untimely);
        }
        self.report.released += if self.stopping.is_some() {
            untimely.len() as u64
        } else {
            0
        };
        self.claim.untimely = !untimely.is_empty();
        self.put_back(untimely, &Outcome::Release);
    }

    /// Puts a claimed message into its lane; those that must not be sent now go to `untimely`.
    fn take_in(&mut self, leased: Leased, untimely: &mut Vec<Leased>) {
        let key = leased.message.ordering_key.as_deref();
        if self.stopping.is_some() || key.is_some_and(|key| self.guard.is_blocked(key)) {
            untimely.push(leased);
            return;
        }
        let destination = self
            .relay
            .publisher
            .destination(&leased.message)
            .into_owned();
        if !self.relay.publisher.routes() {
            self.lane(destination).push(leased);
            return;
        }
        if self.topics.get(&leased.message.topic) != Some(&destination) {
            self.topics
                .insert(leased.message.topic.clone(), destination.clone());
        }
        if let Some(leased) = self.guard.admit(leased, &destination) {
            self.lane(destination).push(leased);
        }
    }

    fn lane(&mut self, destination: String) -> &mut Lane {
        let config = &self.relay.config;
        self.lanes
            .entry(destination)
            .or_insert_with(|| Lane::new(config.breaker, config.batch_ceiling))
    }

    /// A message has left its lane: those of its key that waited for it may go on.
    pub(super) fn leave_lane(&mut self, key: Option<&str>) {
        if !self.relay.publisher.routes() {
            return;
        }
        let freed = key.map(|key| self.guard.leave(key)).unwrap_or_default();
        let mut untimely = Vec::new();
        for leased in freed {
            self.take_in(leased, &mut untimely);
        }
        self.put_back(untimely, &Outcome::Release);
    }

    fn on_extended(&mut self, tokens: usize, until: Timestamp, report: Result<Vec<LeaseToken>>) {
        let now = self.relay.clock.now();
        self.timers.heartbeat = Some(now + self.relay.config.lease / 3);
        match report {
            Ok(lost) => {
                // Where nothing was extended, the lease may be another's: what a claim that is still
                // on its way brings is not sent before that is known.
                self.lease_until = if lost.len() < tokens { until } else { now };
                let lost = self.unsettled.surely(lost);
                if !lost.is_empty() {
                    self.drop_lost(&lost);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "lease not extended; trying again");
                self.timers.heartbeat = Some(now + self.relay.config.lease / 10);
            }
        }
    }

    /// Forgets queued messages that another relay has by now; those on their way are told as lost
    /// when they are settled.
    fn drop_lost(&mut self, lost: &[LeaseToken]) {
        tracing::warn!(messages = lost.len(), "lease lost to another relay");
        let (queued, deferred) = self.take_queued();
        let lanes: Vec<_> = queued
            .iter()
            .map(|one| one.message.ordering_key.clone())
            .collect();
        let (gone, kept): (Vec<_>, Vec<_>) = queued
            .into_iter()
            .chain(deferred)
            .partition(|one| lost.contains(&one.token));
        for leased in gone {
            self.unsettled.settled(leased.token);
            self.report.tally.count(Fate::Lost);
        }
        self.put_back(kept, &Outcome::Release);
        for key in lanes {
            self.leave_lane(key.as_deref());
        }
        self.claim.wanted = true;
    }

    fn on_purged(&mut self, report: Result<u64>) {
        let config = &self.relay.config;
        let now = self.relay.clock.now();
        match report {
            Ok(purged) if purged >= config.purge_batch as u64 => self.timers.purge = now,
            Ok(_) => self.timers.purge = now + config.purge_interval,
            Err(error) => {
                tracing::warn!(%error, "purge failed; trying again later");
                self.timers.purge = now + config.purge_interval;
            }
        }
    }

    fn on_counted(&mut self, stats: OutboxStats) {
        if self
            .drain
            .unsent
            .is_some_and(|unsent| unsent != stats.unsent())
        {
            self.drain.moved_at = self.relay.clock.now();
        }
        self.drain.unsent = Some(stats.unsent());
        self.drain.counted = true;
    }
}
