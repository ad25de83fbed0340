use super::super::step::{Ending, Number, Step};
use super::{Books, Breach, Known, Poison, Ruling, Standing, hold};
use crate::delivery::Leased;
use crate::id::{MessageId, WorkerId};
use crate::lease::LeaseToken;
use crate::message::NewMessage;
use crate::ports::{ClaimRequest, Outcome, Settlement};
use crate::report::{ClaimReport, SettleReport};
use crate::status::{AttemptRecord, OnFailure};
use crate::time::Timestamp;

/// How many messages a relay may hold for each that it claims at once, for each destination.
const HELD_PER_CLAIM: usize = 8;

impl Books {
    /// A transaction has committed `new`, under `id`.
    pub(in super::super) fn committed(
        &mut self,
        now: Timestamp,
        (id, new): (MessageId, &NewMessage),
        poison: Poison,
    ) -> Ruling {
        let number = Number::try_from(self.messages.len()).unwrap_or(Number::MAX);
        let before = self.numbers.insert(id, number);
        let key = new.ordering_key.as_deref().map(key_number);
        self.note(
            now,
            Step::Committed {
                message: number,
                key,
            },
        );
        self.messages.push(Known {
            id: Some(id),
            payload: new.payload.clone(),
            key,
            poison,
            produced: new.idempotency_key.is_some(),
            due: new.due_at.filter(|due| *due > now),
            ..Known::default()
        });
        if let Some(book) = self.key_of(number) {
            book.open.insert(number);
        }
        hold(before.is_none(), "a message is committed once", || {
            format!("{id} was committed as message {before:?} and again as {number}")
        })
    }

    /// A claim was answered.
    pub(in super::super) fn claimed(
        &mut self,
        now: Timestamp,
        request: &ClaimRequest,
        report: &ClaimReport,
    ) -> Ruling {
        for unreadable in &report.unreadable {
            self.set_aside(now, &unreadable.place)?;
        }
        let Some(first) = report.leased.first() else {
            return Ok(());
        };
        let epoch = first.token.epoch;
        if epoch != self.lease.epoch {
            let ended = self.lease.owner.is_none() || self.lease.until <= request.now;
            hold(
                ended && epoch > self.lease.epoch,
                "one lease lives at a time",
                || {
                    format!(
                        "{} took {epoch:?} while {:?} lives",
                        request.owner, self.lease
                    )
                },
            )?;
            self.lease.until = request.now + request.lease;
            self.lease.epoch = epoch;
            self.lease.owner = Some(request.owner);
            self.holding.insert(request.owner, 0);
        }
        hold(
            self.lease.owner == Some(request.owner),
            "one lease lives at a time",
            || {
                format!(
                    "{} claimed under the lease of {:?}",
                    request.owner, self.lease.owner
                )
            },
        )?;
        for leased in &report.leased {
            self.hand_out(now, request, leased)?;
        }
        let held = self.holding.entry(request.owner).or_default();
        *held += report.leased.len();
        let lanes = usize::try_from(self.config.destinations).unwrap_or(1);
        let relay = &self.config.relay;
        let most = HELD_PER_CLAIM * relay.batch_ceiling * relay.concurrency * lanes;
        hold(*held <= most, "memory is bounded", || {
            format!("a relay holds {held} messages, over {most}")
        })
    }

    fn hand_out(&mut self, now: Timestamp, request: &ClaimRequest, leased: &Leased) -> Ruling {
        let number = self.number(leased.message.id)?;
        let epoch = leased.token.epoch;
        self.note(
            now,
            Step::Claimed {
                relay: request.owner,
                epoch,
                message: number,
            },
        );
        let known = self.at(number);
        hold(
            matches!(known.standing, Standing::Waiting)
                || matches!(known.standing, Standing::Claimed(old) if old < epoch),
            "a message is leased to one relay at a time",
            || {
                format!(
                    "message {number} is claimed while it is {:?}",
                    known.standing
                )
            },
        )?;
        hold(
            known.due.is_none_or(|due| due <= request.now),
            "nothing comes before its time",
            || {
                format!(
                    "message {number} is due at {:?}, claimed at {}",
                    known.due, request.now
                )
            },
        )?;
        hold(
            leased.attempt == known.failures + 1,
            "attempts are counted",
            || {
                format!(
                    "attempt {} after {} failures",
                    leased.attempt, known.failures
                )
            },
        )?;
        self.check_turn(number, epoch)?;
        self.at_mut(number).standing = Standing::Claimed(epoch);
        Ok(())
    }

    /// Nothing is claimed behind an unfinished message of its key.
    fn check_turn(&mut self, number: Number, epoch: crate::lease::Epoch) -> Ruling {
        let skips = self.may_skip();
        let Some(key) = self.at(number).key else {
            return Ok(());
        };
        let Some(book) = self.keys.get(&key) else {
            return Ok(());
        };
        hold(!book.parked, "a parked key waits for its operator", || {
            format!("message {number} was claimed although its key {key} is parked")
        })?;
        for earlier in book.open.range(..number) {
            let known = &self.messages[*earlier as usize];
            let rides = known.standing == Standing::Claimed(epoch);
            let skipped = skips && known.failures > 0;
            hold(rides || skipped, "each key keeps its order", || {
                format!(
                    "message {number} was claimed before {earlier}, which is {:?}",
                    known.standing
                )
            })?;
        }
        Ok(())
    }

    /// A settlement was answered.
    pub(in super::super) fn settled(
        &mut self,
        now: Timestamp,
        settlements: &[Settlement],
        report: &SettleReport,
        number_of: impl Fn(LeaseToken) -> Option<MessageId>,
    ) -> Ruling {
        for (place, settlement) in settlements.iter().enumerate() {
            let token = settlement.token;
            let id = number_of(token).ok_or_else(|| Breach {
                rule: "nothing that was not committed is seen",
                how: format!("{token:?} was settled, but never claimed"),
            })?;
            let number = self.number(id)?;
            let took = !report.lost.contains(&place);
            let ending = ending_of(&settlement.outcome);
            self.note(
                now,
                Step::Settled {
                    message: number,
                    epoch: token.epoch,
                    ending,
                    took,
                },
            );
            let live = token.epoch == self.lease.epoch
                && self.at(number).standing == Standing::Claimed(token.epoch);
            hold(live || !took, "a stale token changes nothing", || {
                format!("{token:?} settled message {number} under {:?}", self.lease)
            })?;
            hold(took || !live, "a live token settles", || {
                format!("{token:?} of message {number} was told as lost")
            })?;
            if took {
                self.settle(number, &settlement.outcome)?;
            }
        }
        Ok(())
    }

    fn settle(&mut self, number: Number, outcome: &Outcome) -> Ruling {
        if let Some(owner) = self.lease.owner {
            let held = self.holding.entry(owner).or_default();
            *held = held.saturating_sub(1);
        }
        match outcome {
            Outcome::Published => self.publish(number),
            Outcome::Retry {
                due_at, failure, ..
            } => {
                let known = self.at_mut(number);
                known.standing = Standing::Waiting;
                known.due = Some(*due_at);
                self.blame(number, failure)
            }
            Outcome::Quarantine {
                failure,
                on_failure,
            } => {
                self.blame(number, failure)?;
                self.quarantine(number, failure, *on_failure)
            }
            Outcome::Release => {
                let known = self.at_mut(number);
                known.standing = Standing::Waiting;
                known.due = None;
                Ok(())
            }
            Outcome::Hold { until } => {
                let known = self.at_mut(number);
                known.standing = Standing::Waiting;
                known.due = Some(*until);
                Ok(())
            }
        }
    }

    fn publish(&mut self, number: Number) -> Ruling {
        self.close(number, Standing::Published);
        let known = self.at(number);
        let everywhere = known.added > 0 && (known.mirrored > 0 || !self.config.mirrored);
        hold(everywhere, "nothing committed is lost", || {
            format!("message {number} counts as published, but not everybody had it: {known:?}")
        })
    }

    pub(super) fn close(&mut self, number: Number, standing: Standing) {
        self.at_mut(number).standing = standing;
        if let Some(book) = self.key_of(number) {
            book.open.remove(&number);
        }
    }

    /// An attempt is counted only for what the message itself may have caused.
    fn blame(&mut self, number: Number, failure: &AttemptRecord) -> Ruling {
        let known = self.at_mut(number);
        known.failures += 1;
        let causes = match failure.kind.as_str() {
            "failed" | "refused" => known.refusals,
            "broken" => known.sent_alone,
            _ => 0,
        };
        hold(causes > 0, "an outage costs no attempt", || {
            format!(
                "message {number} was charged for `{}`: {}",
                failure.kind, failure.error
            )
        })?;
        hold(
            known.failures <= known.refusals + known.sent_alone,
            "attempts are counted",
            || {
                format!(
                    "message {number} has {} failures in its record",
                    known.failures
                )
            },
        )
    }

    fn quarantine(
        &mut self,
        number: Number,
        failure: &AttemptRecord,
        on_failure: OnFailure,
    ) -> Ruling {
        self.close(number, Standing::Quarantined);
        if let (OnFailure::ParkKey, Some(book)) = (on_failure, self.key_of(number)) {
            book.parked = true;
        }
        let known = self.at(number);
        let hopeless = known.poison == Poison::Queue && failure.kind == "refused";
        let tried = known.failures >= self.config.relay.retry.max_attempts;
        hold(
            hopeless || tried,
            "only the hopeless are quarantined",
            || {
                format!(
                    "message {number} after {} attempts: {}",
                    known.failures, failure.kind
                )
            },
        )
    }

    /// The leases behind `tokens` were to be extended; those in `lost` were not.
    pub(in super::super) fn extended(
        &mut self,
        now: Timestamp,
        (tokens, lost): (&[LeaseToken], &[LeaseToken]),
        until: Timestamp,
    ) -> Ruling {
        let epoch = self.lease.epoch;
        let mut held = tokens
            .iter()
            .filter(|token| !lost.contains(token))
            .peekable();
        if held.peek().is_some() {
            self.lease.until = self.lease.until.max(until);
            self.note(now, Step::Extended { epoch, until });
        }
        match held.find(|token| token.epoch != epoch) {
            None => Ok(()),
            Some(stale) => Err(Breach {
                rule: "a stale token changes nothing",
                how: format!("{stale:?} was extended under {epoch:?}"),
            }),
        }
    }

    /// A relay gave its lease back.
    pub(in super::super) fn released(&mut self, now: Timestamp, relay: WorkerId) -> Ruling {
        if self.lease.owner != Some(relay) {
            return Ok(());
        }
        self.note(now, Step::Released { relay });
        self.lease.owner = None;
        self.holding.remove(&relay);
        for known in &mut self.messages {
            if matches!(known.standing, Standing::Claimed(_)) {
                known.standing = Standing::Waiting;
            }
        }
        Ok(())
    }

    /// An operator resumed a key.
    pub(in super::super) fn resumed(&mut self, key: u32) -> Ruling {
        self.keys.entry(key).or_default().parked = false;
        Ok(())
    }

    /// The number of the key of a message that is parked, for each such key.
    pub(in super::super) fn parked(&self) -> Vec<u32> {
        let parked = self.keys.iter().filter(|(_, book)| book.parked);
        parked.map(|(key, _)| *key).collect()
    }
}

/// The number at the end of a key's name.
pub(in super::super) fn key_number(key: &str) -> u32 {
    let digits = key.rsplit('-').next().unwrap_or_default();
    digits.parse().unwrap_or(u32::MAX)
}

fn ending_of(outcome: &Outcome) -> Ending {
    match outcome {
        Outcome::Published => Ending::Done,
        Outcome::Retry { .. } => Ending::Retry,
        Outcome::Quarantine { .. } => Ending::Quarantine,
        Outcome::Release | Outcome::Hold { .. } => Ending::PutBack,
    }
}
