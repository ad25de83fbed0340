//! Starting work: everything that can be done now is begun as a future.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tracing::Instrument;

use crate::ports::{ClaimRequest, Outcome};
use crate::signal::WakeListener;
use crate::time::Timestamp;

use super::super::judge::Answer;
use super::super::lane::Batch;
use super::{Call, Engine, Event, Goal};
use crate::observe::{names, tell};

/// An idle relay keeps its lease for this part of its length.
const LINGER: u32 = 6;

/// How many batches may wait to be settled before nothing more is claimed: a store that is slow to
/// settle must not fill the memory.
const UNSETTLED_BATCHES: usize = 4;

impl Engine<'_> {
    pub(super) fn start_work(&mut self, now: Timestamp, listener: &mut WakeListener) {
        self.read_timers(now);
        self.start_heartbeat(now);
        self.start_publishing(now);
        self.start_settling(now);
        if self.stopping.is_none() {
            self.start_claim(now, listener);
            self.start_purge(now);
            self.start_idling(now);
        }
        if let Some(report) = self.desk.next() {
            let told = tell(&self.relay.hooks, report, self.relay.config.hook_timeout);
            self.work.push(told.map(|()| Event::Told).boxed());
        }
    }

    fn read_timers(&mut self, now: Timestamp) {
        self.timers.read(now);
        if self.timers.due.is_some_and(|due| due <= now) {
            self.timers.due = None;
            self.claim.wanted = true;
        }
        if self.timers.poll <= now {
            self.timers.poll = now + self.relay.config.safety_poll;
            self.claim.wanted = true;
        }
    }

    fn start_heartbeat(&mut self, now: Timestamp) {
        if !self.unsettled.has_live() {
            self.timers.heartbeat = None;
        }
        let due = self.timers.heartbeat.is_some_and(|at| at <= now);
        if !due || self.busy.extending {
            return;
        }
        self.busy.extending = true;
        let tokens = self.unsettled.begin_extension();
        let until = now + self.relay.config.lease;
        let outbox = &self.relay.outbox;
        let extend = async move {
            let report = outbox.extend(&tokens, until).await;
            Event::Extended(tokens.len(), until, report)
        };
        self.work.push(extend.boxed());
    }

    fn start_publishing(&mut self, now: Timestamp) {
        let names: Vec<String> = self
            .lanes
            .iter()
            .filter(|(_, l)| l.queued() > 0)
            .map(|(n, _)| n.clone())
            .collect();
        if !names.is_empty() && now >= self.lease_until {
            // Somebody else may have the lease by now: nothing is sent before that is known.
            self.timers.extend_soon(now);
            self.start_heartbeat(now);
            return;
        }
        let ordering = self.relay.publisher.ordering();
        let calls = (
            self.relay.config.concurrency,
            self.relay.publisher.pipeline_depth(),
        );
        for name in names {
            self.put_back_where_closed(&name, now);
            while let Some(batch) = self
                .lanes
                .get_mut(&name)
                .and_then(|lane| lane.next_batch(now, ordering, calls))
            {
                self.start_call(name.clone(), batch, now);
                if self.ended.is_some() {
                    // Nothing follows a call before its answer is heard.
                    return;
                }
            }
        }
    }

    /// Gives back what waits for a destination that takes nothing now.
    fn put_back_where_closed(&mut self, name: &str, now: Timestamp) {
        let Some(lane) = self.lanes.get_mut(name) else {
            return;
        };
        if let Some(until) = lane.closed_until(now) {
            let queued = lane.drain();
            let until = (until, lane.waits_as_told(now));
            let outcome = self.untried(until, now);
            self.turn_away(queued, &outcome);
        }
    }

    /// What becomes of untried messages while their destination is away, until when it was told or
    /// else believed to be. One that told may have room sooner: then they come as soon as their
    /// topic is claimed again.
    pub(super) fn untried(&mut self, (until, told): (Timestamp, bool), now: Timestamp) -> Outcome {
        self.timers.due_at(until);
        match (self.relay.publisher.routes(), told) {
            (false, _) => Outcome::Release,
            (true, true) => Outcome::Hold { until: now },
            (true, false) => Outcome::Hold { until },
        }
    }

    fn start_call(&mut self, destination: String, batch: Batch, now: Timestamp) {
        let Batch {
            messages,
            held,
            number,
            trial,
        } = batch;
        let publisher = &self.relay.publisher;
        let limit = self.relay.config.publish_timeout;
        let span =
            tracing::debug_span!(names::SPAN_PUBLISH, %destination, messages = messages.len());
        let call = async move {
            let publish = AssertUnwindSafe(publisher.publish(&messages)).catch_unwind();
            let answer = match tokio::time::timeout(limit, publish).await {
                Ok(Ok(results)) if results.len() == messages.len() => Answer::Results(results),
                Ok(Ok(results)) => Answer::Broken(format!(
                    "publisher answered {} results for {} messages",
                    results.len(),
                    messages.len()
                )),
                Ok(Err(_)) => Answer::Broken("publisher panicked".to_owned()),
                Err(_) => Answer::Hung(format!("publisher did not answer within {limit:?}")),
            };
            Event::Published(Call {
                destination,
                messages,
                held,
                number,
                trial,
                started: now,
                answer,
            })
        };
        // Asked at once, so that calls reach their publisher in the order in which they are made.
        let mut call = call.instrument(span).boxed();
        match (&mut call).now_or_never() {
            Some(event) => self.ended = Some(event),
            None => self.work.push(call),
        }
    }

    fn start_settling(&mut self, now: Timestamp) {
        let early = self.judged.repeated > 0 && self.claim.running;
        if self.busy.settling || early || self.timers.rest.until(now).is_some() {
            return;
        }
        self.drop_unrepeatable();
        if self.judged.settlements.is_empty() {
            return;
        }
        self.busy.settling = true;
        self.judged.settling.append(&mut self.judged.groups);
        let settlements = std::mem::take(&mut self.judged.settlements);
        let outbox = &self.relay.outbox;
        let span = tracing::debug_span!(names::SPAN_SETTLE, messages = settlements.len());
        let settle = async move {
            let report = outbox.settle(&settlements, now).await;
            Event::Settled(settlements, report)
        };
        self.work.push(settle.instrument(span).boxed());
    }

    fn start_claim(&mut self, now: Timestamp, listener: &mut WakeListener) {
        let rests = self.timers.rest.until(now).is_some();
        let unknown = self.claim.unknown || self.judged.repeated > 0;
        let chasing = self.claim.untimely && self.guard.awaits_return();
        let barred = unknown || self.busy.releasing || rests || chasing;
        if !self.claim.wanted || self.claim.running || barred {
            return;
        }
        let Some(max) = self.room(now) else {
            return;
        };
        self.claim.wanted = false;
        self.claim.running = true;
        let number = self.claim.next;
        self.claim.next += 1;
        // What is appended from here on wakes us again, whether this claim sees it or not.
        listener.mark_seen();
        let request = ClaimRequest {
            owner: self.owner,
            max,
            lease: self.relay.config.lease,
            now,
            paused_topics: self.paused_topics(now),
        };
        let outbox = &self.relay.outbox;
        let span = tracing::debug_span!(names::SPAN_CLAIM, max);
        let claim =
            async move { Event::Claimed(number, request.now, outbox.claim(&request).await) };
        self.work.push(claim.instrument(span).boxed());
    }

    /// How many messages may be claimed now: up to one batch ahead of what is being published.
    fn room(&self, now: Timestamp) -> Option<usize> {
        let ceiling = self.relay.config.batch_ceiling;
        let routes = self.relay.publisher.routes();
        if self.judged.len() >= UNSETTLED_BATCHES * ceiling {
            return None;
        }
        let mut ahead = self.guard.deferred();
        for lane in self.lanes.values() {
            if routes && lane.is_stalled(now) {
                continue;
            }
            if !routes && lane.closed_until(now).is_some() {
                return None;
            }
            if !routes && lane.wants_trial(now) {
                return (lane.queued() == 0).then_some(1);
            }
            ahead += lane.queued();
        }
        (ahead < ceiling).then_some(ceiling)
    }

    /// Topics whose destination takes nothing now: it is away, or a full batch waits for it while it
    /// is busy.
    fn paused_topics(&self, now: Timestamp) -> Vec<String> {
        let ceiling = self.relay.config.batch_ceiling;
        let paused = |destination: &String| {
            self.lanes.get(destination).is_some_and(|lane| {
                lane.closed_until(now).is_some()
                    || (lane.is_stalled(now) && lane.queued() >= ceiling)
            })
        };
        let topics = self
            .topics
            .iter()
            .filter(|(_, destination)| paused(destination));
        topics.map(|(topic, _)| topic.clone()).collect()
    }

    fn start_purge(&mut self, now: Timestamp) {
        if self.busy.purging || now < self.timers.purge {
            return;
        }
        self.busy.purging = true;
        let outbox = &self.relay.outbox;
        let config = &self.relay.config;
        let purge = async move {
            Event::Purged(
                outbox
                    .purge(now - config.retention, config.purge_batch)
                    .await,
            )
        };
        self.work.push(purge.boxed());
    }

    /// Nothing to do: the lease is given back, so that an idle relay has nothing to renew; a flush
    /// counts what is left.
    fn start_idling(&mut self, now: Timestamp) {
        if !self.may_idle(now) || self.lingers(now) {
            return;
        }
        let outbox = &self.relay.outbox;
        if self.claim.holding || self.claim.unknown {
            self.claim.holding = false;
            self.timers.give_back = None;
            self.busy.releasing = true;
            let owner = self.owner;
            let release = async move { Event::Released(outbox.release(owner).await) };
            self.work.push(release.boxed());
        } else if self.goal == Goal::Empty && !self.drain.counted && !self.busy.counting {
            self.busy.counting = true;
            let count = async move { Event::Counted(outbox.stats(now).await) };
            self.work.push(count.boxed());
        }
    }

    /// Whether nothing is to be done, and the store has no rest.
    fn may_idle(&self, now: Timestamp) -> bool {
        self.is_idle() && self.timers.rest.until(now).is_none()
    }

    /// Whether a lease is held that is given back once it was kept for long enough.
    pub(super) fn gives_back(&self, now: Timestamp) -> bool {
        self.claim.holding && self.may_idle(now)
    }

    /// Whether nothing is claimed, and no call to the outbox is under way that is about messages.
    fn is_idle(&self) -> bool {
        self.unsettled.is_empty()
            && !self.claim.running
            && !self.busy.settling
            && !self.busy.releasing
    }

    /// Whether the lease is kept a little longer although there is nothing to do: where one message
    /// came, the next often follows, and is handed out without a lease being taken first. No
    /// heartbeat falls into that time.
    fn lingers(&mut self, now: Timestamp) -> bool {
        if !self.claim.holding || self.claim.unknown || self.goal == Goal::Empty {
            return false;
        }
        let linger = self.relay.config.lease / LINGER;
        now < *self.timers.give_back.get_or_insert(now + linger)
    }
}
