//! What the worker learns from work that is done.

use std::time::Duration;

use crate::delivery::Delivery;
use crate::error::{OutboxError, Result};
use crate::lease::{EntryId, Receipt};
use crate::ports::DequeueReport;
use crate::report::{Fate, QueueStats, SettleReport};
use crate::time::Timestamp;

use super::super::Semantics;
use super::super::decided::{Admission, Admitted, Decided, Ended};
use super::super::suspect::{self, Suspects};
use super::{Engine, Event, Taken};

/// How long a queue that holds what it does not give is waited for at first, before it is counted
/// again, and at last.
const SHORTEST_LULL: Duration = Duration::from_millis(1);
const LONGEST_LULL: Duration = Duration::from_millis(50);

impl Engine<'_> {
    pub(super) fn on_event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Taken(how, report) => {
                self.busy.taking = false;
                if let Some(report) = self.queue_answer("take", report)? {
                    self.on_taken(how, report);
                }
            }
            Event::Admitted(admission) => self.on_admitted(admission),
            Event::Settled(decided, report) => {
                self.busy.settling = false;
                self.settling.clear();
                self.suspects_settling = Suspects::NONE;
                match self.queue_answer("settle", report)? {
                    Some(report) => self.on_settled(decided, &report),
                    None => self.decided.extend(decided),
                }
            }
            Event::Extended(report) => {
                self.busy.extending = false;
                self.timers.heartbeat = self.worker.clock.now() + self.worker.config.lease / 3;
                if let Some(lost) = self.queue_answer("extend", report)? {
                    self.drop_lost(&lost);
                }
            }
            Event::Counted(report) => {
                self.busy.counting = false;
                if let Some(stats) = self.queue_answer("count", report)? {
                    self.on_counted(stats);
                }
            }
            Event::Told => self.desk.told(),
        }
        Ok(())
    }

    /// Takes a queue's answer apart: an error makes the worker pause, or ends it where no pause
    /// helps.
    fn queue_answer<T>(&mut self, operation: &str, answer: Result<T>) -> Result<Option<T>> {
        match answer {
            Ok(value) => {
                self.timers.rest.answered();
                Ok(Some(value))
            }
            Err(error @ OutboxError::Backend { .. }) => {
                tracing::warn!(operation, %error, "queue failed; trying again");
                self.timers.rest.failed(self.worker.clock.now());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn on_taken(&mut self, how: Taken, report: DequeueReport) {
        let now = self.worker.clock.now();
        self.report.tally.quarantined += report.unreadable.len() as u64;
        for unreadable in &report.unreadable {
            tracing::error!(
                place = unreadable.place,
                problem = unreadable.problem,
                "unreadable"
            );
        }
        if report.none_held {
            self.timers.recover = now + self.worker.config.safety_poll;
        }
        if let Some(expiry) = report.next_expiry {
            self.timers.recover = self.timers.recover.min(expiry);
        }
        if how == Taken::Recovered && !report.deliveries.is_empty() {
            // There may be more: a full answer is no proof that it was all.
            self.timers.recover = now;
        }
        self.dry = report.deliveries.is_empty();
        if !self.dry {
            self.lull = Duration::ZERO;
        }
        if self.held() == 0 && !report.deliveries.is_empty() {
            self.timers.heartbeat = now + self.worker.config.lease / 3;
        }
        let mut news = report.deliveries;
        news.retain(|delivery| how == Taken::Dequeued || !self.renew(delivery));
        self.take_in(news, now);
        if self.stopping.is_some() {
            self.report.released += self.ready.len() as u64;
            self.give_back_ready(now);
        }
    }

    /// Makes ready what is to be handled; of those that seem to kill their worker no more than may be
    /// held together.
    fn take_in(&mut self, deliveries: Vec<Delivery>, now: Timestamp) {
        let most = self.worker.config.max_takeovers;
        let sorted = suspect::sort(deliveries, (self.suspects_in_hand(), most), now);
        self.ready.extend(sorted.sound);
        for (delivery, until) in sorted.turned_away {
            let delivery = Admitted::unclaimed(delivery);
            self.decided.push(Decided::delayed(delivery, until));
        }
        for (delivery, failure) in sorted.hopeless {
            tracing::error!(message = %delivery.message.id, failure.error, "kills its workers");
            let delivery = Admitted::unclaimed(delivery);
            self.decided.push(Decided::quarantined(delivery, failure));
        }
    }

    /// An entry that was lost comes back while this worker still has it: what it has goes on, under
    /// the new receipt. Whether that is so. What comes as another attempt was settled as failed, and the
    /// answer to that is lost: it is not to be settled so again.
    fn renew(&mut self, again: &Delivery) -> bool {
        let receipt = again.receipt;
        if let Some(running) = self.running.get_mut(&receipt.entry) {
            running.receipt = receipt;
            return true;
        }
        let decided = self.decided.iter_mut().map(|one| &mut one.delivery);
        let mut held = self.ready.iter_mut().chain(decided);
        let known = held.find(|delivery| {
            delivery.receipt.entry == receipt.entry && delivery.attempt == again.attempt
        });
        known.map(|delivery| delivery.receipt = receipt).is_some()
    }

    fn on_admitted(&mut self, admission: Admission) {
        self.busy.admitting = false;
        if let Some(until) = admission.closed_until {
            self.timers.closed = Some(until);
        }
        for decided in admission.decided {
            self.decide(decided);
        }
        self.starting.extend(admission.admitted);
    }

    pub(super) fn on_ended(&mut self, all: Vec<(u64, Ended)>) {
        for (number, ended) in all {
            let running = self.running.get(&ended.admitted.delivery.receipt.entry);
            let handling = running.and_then(|running| running.handling.as_ref());
            // What was dropped from the books may have ended before it was dropped itself.
            if handling.is_some_and(|handling| handling.is(number)) {
                let decided = self.worker.consumer.judge(ended, &self.worker.entropy);
                self.decide(decided);
            }
        }
    }

    /// A delivery's fate is known: its place and its key are free, and it is to be settled.
    fn decide(&mut self, mut decided: Decided) {
        let Some(receipt) = self.free(decided.delivery.receipt.entry) else {
            return;
        };
        decided.delivery.receipt = receipt;
        let first = self.worker.consumer.config().semantics == Semantics::AtMostOnce;
        let acknowledged = first && decided.handled;
        if acknowledged || decided.fate == Fate::Lost {
            self.tell(vec![decided]);
        } else {
            self.decided.push(decided);
        }
    }

    /// Frees the place of a delivery; answers its receipt where it was still ours.
    fn free(&mut self, entry: EntryId) -> Option<Receipt> {
        let running = self.running.remove(&entry)?;
        if let Some(key) = running.key {
            self.busy_keys.remove(&key);
        }
        Some(running.receipt)
    }

    fn on_settled(&mut self, mut decided: Vec<Decided>, report: &SettleReport) {
        for place in &report.lost {
            if let Some(one) = decided.get_mut(*place) {
                one.fate = Fate::Lost;
            }
        }
        self.tell(decided);
    }

    /// Counts what is finally known, and tells the hooks.
    fn tell(&mut self, decided: Vec<Decided>) {
        let now = self.worker.clock.now();
        for one in &decided {
            self.report.tally.count(one.fate);
            let done = matches!(
                one.fate,
                Fate::Done | Fate::Duplicate | Fate::Retried | Fate::Quarantined
            );
            if self.stopping.is_some() && done {
                self.report.finished += 1;
            }
        }
        if !self.worker.hooks.is_empty() {
            let report = self.batch_report(&decided, now);
            self.desk.queue(report);
        }
    }

    /// Another worker has these by now: they are not handled, or their handling is aborted, to keep
    /// doubled effects few.
    fn drop_lost(&mut self, lost: &[Receipt]) {
        if lost.is_empty() {
            return;
        }
        tracing::warn!(deliveries = lost.len(), "deliveries lost to another worker");
        // By receipt: an entry that was handed out again meanwhile is still ours.
        let lost: std::collections::HashSet<&Receipt> = lost.iter().collect();
        let before = self.ready.len();
        self.ready
            .retain(|delivery| !lost.contains(&delivery.receipt));
        let mut dropped = before - self.ready.len();
        let handled: Vec<EntryId> = self
            .running
            .iter()
            .filter(|(_, running)| lost.contains(&running.receipt))
            .map(|(entry, _)| *entry)
            .collect();
        for entry in handled {
            let begun = self
                .running
                .get(&entry)
                .is_some_and(|running| running.handling.is_some());
            if begun {
                self.free(entry);
                dropped += 1;
            }
        }
        self.report.tally.lost += dropped as u64;
    }

    fn on_counted(&mut self, stats: QueueStats) {
        self.empty = stats.depth() == 0;
        self.lull = (2 * self.lull).clamp(SHORTEST_LULL, LONGEST_LULL);
    }
}
