//! What becomes of a call to a publisher: its messages are judged, and then settled.

use crate::delivery::Leased;
use crate::error::PublishError;
use crate::ports::{Outcome, Settlement};
use crate::report::{Fate, SettleReport};
use crate::status::OnFailure;
use crate::time::Timestamp;

use super::super::judge::{Answer, Court, One, Verdict};
use super::{Call, Engine, Filed, Group};

impl Engine<'_> {
    /// A destination says that it has room: it is tried at once.
    pub(super) fn on_room(&mut self, destination: &str) {
        let now = self.relay.clock.now();
        if let Some(lane) = self.lanes.get_mut(destination) {
            lane.breaker().invited(now);
            self.claim.wanted = true;
        }
    }

    pub(super) fn on_published(&mut self, call: Call) {
        let now = self.relay.clock.now();
        self.learn(&call, now);
        // A lane that was stuck may take more now, and what was set aside for it may come back.
        self.claim.wanted |= self.relay.publisher.routes();
        let Call {
            destination,
            messages,
            held,
            number: _,
            trial,
            started,
            answer,
        } = call;
        let lane = self.lanes.get(&destination);
        let until = lane.and_then(|lane| Some((lane.closed_until(now)?, lane.waits_as_told(now))));
        let mut put_back = until.map_or(Outcome::Release, |until| self.untried(until, now));
        if let (Some((until, _)), true, Answer::Broken(_) | Answer::Hung(_)) =
            (until, trial, &answer)
        {
            // This message may be what breaks the calls: the next trial is made with another.
            let until = until + self.relay.config.breaker.reset_timeout;
            put_back = Outcome::Hold { until };
        }
        let court = Court {
            config: &self.relay.config,
            entropy: &self.relay.entropy,
            put_back,
            started,
            now,
        };
        // A time limit that is noticed as late as this tells that the whole process stood still: the
        // message may not even have been sent.
        let late = now.since(started) >= self.relay.config.publish_timeout.saturating_mul(2);
        let stood_still = late && matches!(answer, Answer::Hung(_));
        let alone = messages.len() == 1 && !trial && !stood_still;
        let ones = messages.iter().zip(&held).map(|(message, held)| One {
            message,
            held: *held,
        });
        let verdicts: Vec<Verdict> = match answer {
            Answer::Results(results) => ones
                .zip(results)
                .map(|(one, result)| court.judge(&one, result))
                .collect(),
            Answer::Broken(problem) | Answer::Hung(problem) => ones
                .map(|one| court.judge_broken(&one, alone, &problem))
                .collect(),
        };
        let group = Group {
            destination,
            duration: now.since(started),
            messages,
            held,
            fates: Vec::with_capacity(verdicts.len()),
        };
        self.file(group, verdicts);
    }

    /// Tells the lane what its call came to.
    fn learn(&mut self, call: &Call, now: Timestamp) {
        let Some(lane) = self.lanes.get_mut(&call.destination) else {
            return;
        };
        lane.returned(&call.messages, now);
        let results = match &call.answer {
            Answer::Results(results) => results,
            Answer::Broken(problem) | Answer::Hung(problem) => {
                tracing::warn!(
                    destination = call.destination,
                    problem,
                    "publish call broke"
                );
                let concurrency = self.relay.config.concurrency;
                lane.broke(call.number, call.messages.len(), concurrency, now);
                return;
            }
        };
        lane.adapt(
            now.since(call.started),
            call.messages.len(),
            &self.relay.config,
        );
        let away = results.iter().find_map(|result| match result {
            Err(PublishError::Unavailable { retry_after, .. }) => Some(*retry_after),
            Err(PublishError::Fenced { seen }) => {
                tracing::error!(seen, "the sink knows a newer relay than this one");
                // Whether the lease is still held is to be known at once.
                self.timers.heartbeat = Some(now);
                Some(None)
            }
            _ => None,
        });
        match away {
            Some(retry_after) => lane.breaker().unavailable(now, retry_after),
            None => lane.breaker().succeeded(),
        }
    }

    /// Hands judged messages to settlement, and holds back the keys of those that stay.
    fn file(&mut self, mut group: Group, verdicts: Vec<Verdict>) {
        let mut left = Vec::new();
        for (message, verdict) in group.messages.iter().zip(verdicts) {
            let blocks = verdict.fate != Fate::Done && !skips_key(&verdict.settlement.outcome);
            if let Some(key) = message.ordering_key.as_deref() {
                if blocks {
                    self.guard.block(key);
                }
                left.push(key.to_owned());
            }
            if let Outcome::Retry { due_at, .. } = verdict.settlement.outcome {
                self.timers.due_at(due_at);
            }
            self.judged.settlements.push(verdict.settlement);
            group.fates.push(Filed {
                fate: verdict.fate,
                error: verdict.error,
                blocks,
            });
        }
        self.judged.groups.push(group);
        self.put_back_blocked();
        for key in left {
            self.leave_lane(Some(&key));
        }
    }

    /// Gives back queued messages whose key is held back.
    fn put_back_blocked(&mut self) {
        if self.guard.has_blocked() {
            let guard = &self.guard;
            let blocked: Vec<Leased> = self
                .lanes
                .values_mut()
                .flat_map(|lane| lane.drain_blocked(guard))
                .collect();
            self.turn_away(blocked, &Outcome::Release);
        }
    }

    /// The answer to a settlement is lost: it is to be repeated.
    pub(super) fn settle_again(&mut self, mut settlements: Vec<Settlement>) {
        self.judged.repeated = settlements.len();
        settlements.append(&mut self.judged.settlements);
        self.judged.settlements = settlements;
        let mut groups = std::mem::take(&mut self.judged.settling);
        groups.append(&mut self.judged.groups);
        self.judged.groups = groups;
    }

    /// Drops what must not be repeated: it would settle the next attempt of a message that the lost
    /// settlement had put back. That is so where the message was claimed again since. Where the
    /// answer of a claim is lost as well, any message may have been claimed again: what is not final
    /// is then dropped, and the lease, which is given back next, puts back what is still claimed.
    pub(super) fn drop_unrepeatable(&mut self) {
        let repeated = std::mem::take(&mut self.judged.repeated);
        if repeated == 0 {
            return;
        }
        let mut place = 0;
        let mut settlements = std::mem::take(&mut self.judged.settlements).into_iter();
        let mut dropped = Vec::new();
        for group in std::mem::take(&mut self.judged.groups) {
            let mut kept = Group::new(group.destination.clone());
            let mut gone = Group::new(group.destination);
            (kept.duration, gone.duration) = (group.duration, group.duration);
            let messages = group.messages.into_iter().zip(group.held).zip(group.fates);
            for (((message, held), filed), settlement) in messages.zip(&mut settlements) {
                let unsure = self.claim.unknown && !is_final(&settlement.outcome);
                let again = unsure || self.unsettled.was_claimed_again(held.token);
                if place < repeated && again {
                    gone.push(message, held, filed);
                } else {
                    kept.push(message, held, filed);
                    self.judged.settlements.push(settlement);
                    self.judged.repeated += usize::from(place < repeated);
                }
                place += 1;
            }
            self.judged.groups.push(kept);
            dropped.push(gone);
        }
        self.close(dropped, &SettleReport::default());
    }

    pub(super) fn on_settled(&mut self, report: &SettleReport) {
        self.judged.repeated = 0;
        let groups = std::mem::take(&mut self.judged.settling);
        self.close(groups, report);
    }

    /// These are settled, as far as this relay has a say in it.
    fn close(&mut self, mut groups: Vec<Group>, report: &SettleReport) {
        let now = self.relay.clock.now();
        groups.retain(|group| !group.messages.is_empty());
        let mut lost = report.lost.iter().copied().peekable();
        let mut place = 0;
        for group in &mut groups {
            let messages = group.messages.iter().zip(&group.held).zip(&mut group.fates);
            for ((message, held), filed) in messages {
                if let (true, Some(key)) = (filed.blocks, message.ordering_key.as_deref()) {
                    self.guard.settled(key, self.claim.next);
                }
                if lost.next_if_eq(&place).is_some() {
                    filed.fate = Fate::Lost;
                }
                self.unsettled.settled(held.token);
                self.count(filed.fate, held.attempt, now);
                place += 1;
            }
        }
        self.drain.counted = false;
        if !self.unsettled.has_live() {
            self.timers.heartbeat = None;
        }
        if !self.relay.hooks.is_empty() {
            for group in &groups {
                self.desk.queue(self.batch_report(group, now));
            }
        }
    }

    fn count(&mut self, fate: Fate, attempt: u32, now: Timestamp) {
        self.report.tally.count(fate);
        if matches!(fate, Fate::Done | Fate::Quarantined) {
            self.drain.moved_at = now;
        }
        // What waited behind this message may be claimable now.
        if fate != Fate::Done || attempt > 1 {
            self.claim.wanted = true;
        }
        if self.stopping.is_some() && matches!(fate, Fate::Done | Fate::Retried | Fate::Quarantined)
        {
            self.report.finished += 1;
        }
    }
}

/// Whether a message with this outcome has left the outbox for good.
fn is_final(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Published | Outcome::Quarantine { .. })
}

/// Whether the other messages of its key go on although this one is not published. One that is on
/// its way to quarantine holds them back, too, until it is there: a crash before brings it back.
fn skips_key(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Retry {
            on_failure: OnFailure::SkipMessage,
            ..
        } | Outcome::Quarantine {
            on_failure: OnFailure::SkipMessage,
            ..
        }
    )
}
