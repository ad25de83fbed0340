//! Starting work: everything that can be done now is begun.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt;
use tracing::Instrument;

use crate::delivery::Delivery;
use crate::observe::{names, tell};
use crate::ports::{DeliveryOutcome, DeliverySettlement, DequeueRequest, RecoverRequest};
use crate::report::Fate;
use crate::time::Timestamp;

use super::super::Semantics;
use super::super::decided::{Admission, Admitted};
use super::super::suspect::is_suspect;
use super::{Engine, Event, Goal, Running, Taken};

/// How many deliveries may wait to be settled for each that may be held before: with more, nothing is
/// taken, so that a queue that hangs in settling does not fill the memory.
const UNSETTLED_PER_PLACE: usize = 2;

impl Engine<'_> {
    pub(super) fn start_work(&mut self, now: Timestamp) {
        self.read_timers(now);
        self.start_heartbeat(now);
        self.start_handling(now);
        self.start_settling(now);
        self.start_taking(now);
        self.start_counting(now);
        if let Some(report) = self.desk.next() {
            let told = tell(&self.worker.hooks, report, self.worker.config.hook_timeout);
            self.work.push(told.map(|()| Event::Told).boxed());
        }
    }

    fn read_timers(&mut self, now: Timestamp) {
        if now < self.timers.read {
            // The clock was set back: how far away a moment is that is to come, nobody knows.
            self.timers.closed = None;
            self.timers.recover = now;
            self.timers.heartbeat = now;
        }
        self.timers.read = now;
        if self.timers.closed.is_some_and(|until| until <= now) {
            self.timers.closed = None;
        }
    }

    fn start_heartbeat(&mut self, now: Timestamp) {
        let held = self.held();
        if held == 0 || now < self.timers.heartbeat || self.busy.extending {
            return;
        }
        self.busy.extending = true;
        let mut receipts = Vec::with_capacity(held);
        receipts.extend(self.ready.iter().map(|delivery| delivery.receipt));
        // At most once, what is being handled is acknowledged already, and nobody's any more.
        if self.worker.consumer.config().semantics != Semantics::AtMostOnce {
            receipts.extend(self.running.values().map(|running| running.receipt));
        }
        receipts.extend(self.decided.iter().map(|one| one.delivery.receipt));
        receipts.extend(&self.settling);
        let claims: Vec<_> = self
            .running
            .values()
            .filter_map(|running| running.claim)
            .collect();
        let worker = self.worker;
        let extend = async move {
            worker.consumer.extend(&claims, now).await;
            Event::Extended(
                worker
                    .queue
                    .extend(&receipts, worker.config.lease, now)
                    .await,
            )
        };
        self.work.push(extend.boxed());
    }

    /// Fills free places from what is ready.
    fn start_handling(&mut self, now: Timestamp) {
        let free = self
            .worker
            .config
            .concurrency
            .saturating_sub(self.running.len());
        if free == 0 || self.ready.is_empty() || self.busy.admitting {
            return;
        }
        if let Some(until) = self.timers.closed {
            self.give_back_ready(until);
            return;
        }
        let mut chosen = self.choose(free);
        if chosen.is_empty() {
            return;
        }
        let (permitted, closed_until) = self.worker.consumer.permit(chosen.len(), now);
        for delivery in chosen.split_off(permitted).into_iter().rev() {
            self.ready.push_front(delivery);
        }
        if let Some(until) = closed_until {
            self.timers.closed = Some(until);
            self.give_back_ready(until);
            return;
        }
        let semantics = self.worker.consumer.config().semantics;
        if self.worker.consumer.admits_at_once() && semantics != Semantics::AtMostOnce {
            self.starting.reserve(chosen.len());
            for delivery in chosen {
                self.reserve(&delivery);
                self.starting.push(Admitted::unclaimed(delivery));
            }
            return;
        }
        self.start_admission(chosen, now);
    }

    /// Takes up to `most` ready deliveries whose keys nobody else here handles; the others keep their
    /// places, and so do those behind them of the same key. Suspects wait until those are gone from this
    /// worker with which they must not be taken over.
    fn choose(&mut self, most: usize) -> Vec<Delivery> {
        let mut suspects = None;
        let mut chosen = Vec::new();
        let mut keys = BTreeSet::new();
        let mut place = 0;
        while chosen.len() < most
            && let Some(delivery) = self.ready.get(place)
        {
            let key = self.serial_key(delivery);
            let taken = key.is_some_and(|key| self.busy_keys.contains(key) || keys.contains(key));
            // All that is held is looked at only where something is suspect.
            let held = || self.suspects_in_hand().and(self.suspects_leaving());
            if taken || (is_suspect(delivery) && !suspects.get_or_insert_with(held).fit()) {
                place += 1;
            } else {
                keys.extend(key.cloned());
                chosen.extend(self.ready.remove(place));
            }
        }
        chosen
    }

    /// The key that only one delivery at a time is handled of.
    fn serial_key<'d>(&self, delivery: &'d Delivery) -> Option<&'d String> {
        let key = delivery.message.ordering_key.as_ref();
        key.filter(|_| self.worker.config.serial_keys)
    }

    fn reserve(&mut self, delivery: &Delivery) {
        let key = self.serial_key(delivery).cloned();
        self.busy_keys.extend(key.clone());
        let running = Running {
            receipt: delivery.receipt,
            claim: None,
            key,
            takeovers: delivery.takeovers,
            handling: None,
        };
        self.running.insert(delivery.receipt.entry, running);
    }

    fn start_admission(&mut self, chosen: Vec<Delivery>, now: Timestamp) {
        self.busy.admitting = true;
        for delivery in &chosen {
            self.reserve(delivery);
        }
        let worker = self.worker;
        let admit = async move {
            let mut admission = worker.consumer.admit(chosen, now).await;
            if worker.consumer.config().semantics == Semantics::AtMostOnce {
                acknowledge(worker, &mut admission, now).await;
            }
            Event::Admitted(admission)
        };
        self.work.push(admit.boxed());
    }

    pub(super) fn start_handler(&mut self, admitted: Admitted, now: Timestamp) {
        let delivery = &admitted.delivery;
        let Some(running) = self.running.get_mut(&delivery.receipt.entry) else {
            return;
        };
        running.claim = admitted.claim.map(|token| (delivery.message.id, token));
        running.handling = Some(self.crew.handle(admitted, now));
    }

    fn start_settling(&mut self, now: Timestamp) {
        if self.busy.settling || self.decided.is_empty() || self.timers.rest.until(now).is_some() {
            return;
        }
        self.busy.settling = true;
        self.suspects_settling = self.suspects_leaving();
        let room = Vec::with_capacity(self.decided.len());
        let decided = std::mem::replace(&mut self.decided, room);
        self.settling = decided.iter().map(|one| one.delivery.receipt).collect();
        let worker = self.worker;
        let span = tracing::debug_span!(names::SPAN_SETTLE, deliveries = decided.len());
        let settle = async move {
            worker.consumer.conclude(&decided, now).await;
            let settlements: Vec<_> = decided
                .iter()
                .map(|one| DeliverySettlement {
                    receipt: one.delivery.receipt,
                    outcome: one.outcome.clone(),
                })
                .collect();
            let report = worker.queue.settle(&settlements, now).await;
            Event::Settled(decided, report)
        };
        self.work.push(settle.instrument(span).boxed());
    }

    /// Whether more may be taken from the queue now.
    pub(super) fn can_take(&self, now: Timestamp) -> bool {
        let config = &self.worker.config;
        let open = self.timers.closed.is_none() && self.timers.rest.until(now).is_none();
        let counting = self.goal == Goal::Empty && (self.dry || self.busy.counting);
        let unsettled = self.decided.len() + self.settling.len();
        let full = self.room() == 0
            || self.ready.len() > config.prefetch / 2
            || unsettled >= UNSETTLED_PER_PLACE.saturating_mul(self.places());
        self.stopping.is_none() && !self.busy.taking && open && !counting && !full
    }

    /// Deliveries that may be ready or running.
    fn places(&self) -> usize {
        let config = &self.worker.config;
        config.prefetch.saturating_add(config.concurrency)
    }

    fn room(&self) -> usize {
        self.places()
            .saturating_sub(self.ready.len() + self.running.len())
    }

    /// Takes more from the queue: what dead workers left, or what is next.
    fn start_taking(&mut self, now: Timestamp) {
        if !self.can_take(now) {
            return;
        }
        let config = &self.worker.config;
        self.busy.taking = true;
        self.empty = false;
        let max = self.room().min(config.batch);
        let (owner, lease, queue) = (self.owner, config.lease, &self.worker.queue);
        if now >= self.timers.recover {
            self.timers.recover = now + config.safety_poll;
            let request = RecoverRequest {
                owner,
                max,
                lease,
                now,
            };
            let span = tracing::debug_span!(names::SPAN_RECOVER, max);
            let recover =
                async move { Event::Taken(Taken::Recovered, queue.recover_stuck(&request).await) };
            self.work.push(recover.instrument(span).boxed());
            return;
        }
        let wait = self.patience(now);
        let request = DequeueRequest {
            owner,
            max,
            lease,
            wait,
            now,
        };
        let span = tracing::debug_span!(names::SPAN_DEQUEUE, max);
        let take = async move { Event::Taken(Taken::Dequeued, queue.dequeue(&request).await) };
        self.work.push(take.instrument(span).boxed());
    }

    /// How long to wait for a delivery: until something else has to be looked at.
    fn patience(&self, now: Timestamp) -> Duration {
        let config = &self.worker.config;
        let longest = match self.goal {
            Goal::Forever => config.safety_poll,
            Goal::Empty => self.lull,
        };
        longest.min(self.timers.recover.since(now))
    }

    /// Asks whether the queue holds anything at all, where a run is to end when it does not.
    fn start_counting(&mut self, now: Timestamp) {
        let quiet = self.held() == 0 && !self.busy.settling;
        let asked = self.busy.taking || self.busy.counting;
        if self.goal != Goal::Empty || self.stopping.is_some() || !self.dry || !quiet || asked {
            return;
        }
        self.dry = false;
        self.busy.counting = true;
        let queue = &self.worker.queue;
        let count = async move { Event::Counted(queue.stats(now).await) };
        self.work.push(count.boxed());
    }
}

/// At most once: acknowledges before handling; what cannot be acknowledged is not handled.
async fn acknowledge(worker: &super::super::Worker, admission: &mut Admission, now: Timestamp) {
    let settlements: Vec<_> = admission
        .admitted
        .iter()
        .map(|one| DeliverySettlement {
            receipt: one.delivery.receipt,
            outcome: DeliveryOutcome::Done,
        })
        .collect();
    match worker.queue.settle(&settlements, now).await {
        Ok(report) => {
            for place in report.lost.into_iter().rev() {
                admission.refuse(place, Fate::Lost, now);
            }
            let admitted = &mut admission.admitted;
            worker.consumer.remember(admitted, now).await;
        }
        Err(error) => {
            tracing::warn!(%error, "not acknowledged, so not handled");
            for place in (0..admission.admitted.len()).rev() {
                admission.refuse(place, Fate::Deferred, now);
            }
        }
    }
}
