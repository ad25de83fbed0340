use super::super::config::Guard;
use super::super::step::{Ending, Number, Step};
use super::{Books, EntryBook, Poison, Ruling, Standing, hold};
use crate::delivery::Delivery;
use crate::id::{MessageId, WorkerId};
use crate::lease::{EntryId, Receipt};
use crate::message::Message;
use crate::ports::{DeliveryOutcome, DeliverySettlement};
use crate::report::SettleReport;
use crate::status::AttemptRecord;
use crate::time::Timestamp;

/// How many deliveries a worker may hold for each that may wait or run: those, and twice as many that
/// wait to be settled.
const HELD_PER_PLACE: usize = 3;

impl Books {
    /// A worker was answered: it has these now.
    pub(in super::super) fn taken(&mut self, owner: WorkerId, deliveries: &[Delivery]) -> Ruling {
        let holds = self.in_hand.entry(owner).or_default();
        holds.extend(deliveries.iter().map(|one| one.receipt.entry));
        let worker = &self.config.worker;
        let most = HELD_PER_PLACE * (worker.prefetch + worker.concurrency);
        let held = holds.len();
        hold(held <= most, "memory is bounded", || {
            format!("a worker holds {held} deliveries, over {most}")
        })
    }

    /// A worker was answered: it has these no more.
    pub(in super::super) fn given_up<'r>(
        &mut self,
        receipts: impl Iterator<Item = &'r Receipt>,
    ) -> Ruling {
        for receipt in receipts {
            if let Some(holds) = self.in_hand.get_mut(&receipt.owner) {
                holds.remove(&receipt.entry);
            }
        }
        Ok(())
    }

    /// A relay is about to send these messages in one call.
    pub(in super::super) fn sending(&mut self, messages: &[Message]) -> Ruling {
        if let [alone] = messages {
            let number = self.number(alone.id)?;
            self.at_mut(number).sent_alone += 1;
        }
        Ok(())
    }

    /// The queue answered that it does not take this message, which may cost it an attempt.
    pub(in super::super) fn refused(&mut self, id: MessageId) -> Ruling {
        let number = self.number(id)?;
        self.at_mut(number).refusals += 1;
        Ok(())
    }

    /// The queue took a message, or knew it already.
    pub(in super::super) fn enqueued(
        &mut self,
        now: Timestamp,
        message: &Message,
        added: bool,
    ) -> Ruling {
        let number = self.number(message.id)?;
        self.note(
            now,
            Step::Enqueued {
                message: number,
                added,
            },
        );
        let known = self.at_mut(number);
        hold(
            known.payload == message.payload,
            "a message is the same in every attempt",
            || format!("message {number} was sent with another payload"),
        )?;
        if !added {
            return hold(known.added > 0, "nothing committed is lost", || {
                format!("the queue knows message {number}, but never added it")
            });
        }
        known.added += 1;
        hold(known.added == 1, "the queue adds a message once", || {
            format!("message {number} was added again")
        })?;
        self.added.push(number);
        let entry = EntryId {
            major: self.added.len() as u64,
            minor: 0,
        };
        let book = EntryBook {
            message: number,
            failures: 0,
            due: None,
            held: None,
        };
        self.entries.insert(entry, book);
        self.check_order(number)
    }

    /// The second place took a message, for the first time or again.
    pub(in super::super) fn mirrored(&mut self, now: Timestamp, message: &Message) -> Ruling {
        let number = self.number(message.id)?;
        self.note(now, Step::Mirrored { message: number });
        let known = self.at_mut(number);
        hold(
            known.payload == message.payload,
            "a message is the same in every attempt",
            || format!("message {number} was mirrored with another payload"),
        )?;
        known.mirrored += 1;
        if known.mirrored > 1 || known.standing == Standing::Quarantined {
            return Ok(());
        }
        let skips = self.may_skip();
        let last = self
            .key_of(number)
            .map(|book| book.last_mirrored.replace(number));
        let last = last.flatten();
        hold(
            skips || last.is_none_or(|last| last < number),
            "each key keeps its order",
            || format!("message {number} was mirrored after {last:?}"),
        )
    }

    /// A stale relay may still send what its successor has quarantined: that is out of order.
    fn check_order(&mut self, number: Number) -> Ruling {
        let skips = self.may_skip();
        if self.at(number).standing == Standing::Quarantined {
            return Ok(());
        }
        let Some(book) = self.key_of(number) else {
            return Ok(());
        };
        let last = book.last_added.replace(number);
        hold(
            skips || last.is_none_or(|last| last < number),
            "each key keeps its order",
            || format!("message {number} was added after {last:?}"),
        )?;
        let Some(key) = self.at(number).key else {
            return Ok(());
        };
        for earlier in self.keys[&key].open.range(..number) {
            hold(
                skips || self.at(*earlier).added > 0,
                "each key keeps its order",
                || format!("message {number} was added before {earlier}"),
            )?;
        }
        Ok(())
    }

    /// A worker was handed a delivery, at `moment` by its own clock.
    pub(in super::super) fn delivered(
        &mut self,
        now: Timestamp,
        delivery: &Delivery,
        (moment, until): (Timestamp, Timestamp),
    ) -> Ruling {
        let number = self.number(delivery.message.id)?;
        let Receipt {
            entry,
            owner,
            token,
        } = delivery.receipt;
        self.note(
            now,
            Step::Delivered {
                worker: owner,
                entry,
                message: number,
                token,
            },
        );
        self.latest = self.latest.max(moment);
        let latest = self.latest;
        let book = self.entries.get_mut(&entry);
        let Some(book) = book.filter(|book| book.message == number) else {
            return hold(false, "what was settled is not delivered again", || {
                format!("message {number} came as entry {entry}")
            });
        };
        let held = book.held.replace((owner, until, token));
        hold(
            held.is_none_or(|(_, until, _)| until <= moment),
            "one worker has a delivery at a time",
            || format!("entry {entry} went to {owner} at {moment} while {held:?} has it"),
        )?;
        hold(
            book.due.is_none_or(|due| due <= latest),
            "nothing comes before its time",
            || {
                format!(
                    "entry {entry} is due at {:?}, delivered at {moment}",
                    book.due
                )
            },
        )?;
        hold(
            delivery.attempt == book.failures + 1,
            "attempts are counted",
            || {
                format!(
                    "attempt {} after {} failures",
                    delivery.attempt, book.failures
                )
            },
        )
    }

    /// The leases behind `receipts` were to be extended; those in `lost` were not.
    pub(in super::super) fn prolonged(
        &mut self,
        (receipts, lost): (&[Receipt], &[Receipt]),
        until: Timestamp,
    ) -> Ruling {
        for receipt in receipts.iter().filter(|receipt| !lost.contains(receipt)) {
            let live = live_end(self, receipt);
            hold(live.is_some(), "a stale receipt changes nothing", || {
                format!("{receipt:?} was extended")
            })?;
            if let Some(end) = live {
                *end = until;
            }
        }
        Ok(())
    }

    /// Deliveries were settled.
    pub(in super::super) fn concluded(
        &mut self,
        now: Timestamp,
        settlements: &[DeliverySettlement],
        report: &SettleReport,
    ) -> Ruling {
        for (place, settlement) in settlements.iter().enumerate() {
            let Receipt { entry, token, .. } = settlement.receipt;
            let took = !report.lost.contains(&place);
            let ending = ending_of(&settlement.outcome);
            self.note(
                now,
                Step::Concluded {
                    entry,
                    token,
                    ending,
                    took,
                },
            );
            let held = self.entries.get(&entry).and_then(|book| book.held);
            let live = held.is_some_and(|(_, _, current)| current == token);
            hold(live || !took, "a stale receipt changes nothing", || {
                format!("token {token} settled entry {entry}, which {held:?} has")
            })?;
            hold(took || !live, "a live receipt settles", || {
                format!("token {token} of entry {entry} was told as lost")
            })?;
            if took {
                self.conclude(settlement)?;
            }
        }
        Ok(())
    }

    fn conclude(&mut self, settlement: &DeliverySettlement) -> Ruling {
        let entry = settlement.receipt.entry;
        let Some(book) = self.entries.get_mut(&entry) else {
            return Ok(());
        };
        book.held = None;
        let number = book.message;
        match &settlement.outcome {
            DeliveryOutcome::Done => {
                self.entries.remove(&entry);
                let at_most_once = self.config.guard == Guard::AtMostOnce;
                let handled = self.at(number).handled > 0;
                hold(
                    handled || at_most_once,
                    "nothing is acknowledged before it is handled",
                    || format!("message {number} was acknowledged, but not handled"),
                )
            }
            DeliveryOutcome::Retry { due_at, failure } => {
                book.due = Some(*due_at);
                book.failures += 1;
                self.blame_handler(number, failure)
            }
            DeliveryOutcome::Delay { due_at } => {
                book.due = Some(*due_at);
                Ok(())
            }
            DeliveryOutcome::Quarantine { failure } => {
                let failures = book.failures + 1;
                self.entries.remove(&entry);
                self.at_mut(number).quarantined_in_queue = true;
                self.blame_handler(number, failure)?;
                let rejected =
                    failure.kind == "reject" && self.at(number).poison == Poison::Handler;
                let tried = failures >= self.config.retry.max_attempts;
                hold(
                    rejected || tried,
                    "only the hopeless are quarantined",
                    || {
                        format!(
                            "message {number} after {failures} attempts: {}",
                            failure.kind
                        )
                    },
                )
            }
        }
    }

    /// An attempt is counted only where the handler ran.
    fn blame_handler(&mut self, number: Number, failure: &AttemptRecord) -> Ruling {
        let known = self.at_mut(number);
        known.failed_answers += 1;
        hold(
            known.failed_answers <= known.starts,
            "an outage costs no attempt",
            || {
                format!(
                    "message {number}: {} failures in {} starts, the last for `{}`",
                    known.failed_answers, known.starts, failure.kind
                )
            },
        )
    }

    /// A handler begins with a message.
    pub(in super::super) fn started(&mut self, now: Timestamp, id: MessageId) -> Ruling {
        let number = self.number(id)?;
        self.note(now, Step::Started { message: number });
        let at_most_once = self.config.guard == Guard::AtMostOnce;
        let known = self.at_mut(number);
        known.starts += 1;
        hold(
            !at_most_once || known.starts == 1,
            "at most once is at most once",
            || format!("message {number} was begun {} times", known.starts),
        )
    }

    /// The effect of a message was committed.
    pub(in super::super) fn handled(&mut self, now: Timestamp, id: MessageId) -> Ruling {
        let number = self.number(id)?;
        self.note(now, Step::Handled { message: number });
        let inbox = self.config.guard == Guard::Inbox;
        let known = self.at_mut(number);
        known.handled += 1;
        hold(
            !inbox || known.handled == 1,
            "with an inbox each effect exists once",
            || format!("message {number} has {} effects", known.handled),
        )?;
        hold(
            known.added > 0,
            "nothing that was not committed is seen",
            || format!("message {number} was handled, but never sent"),
        )
    }

    /// Whether every message is where it can stay: handled, or in a quarantine.
    pub(in super::super) fn is_done(&self) -> bool {
        let gone = |known: &super::Known| match known.standing {
            Standing::Quarantined => true,
            Standing::Published => true,
            Standing::Waiting | Standing::Claimed(_) => false,
        };
        self.entries.is_empty() && self.messages.iter().all(gone)
    }
}

/// The end of the lease behind a receipt, where that is live.
fn live_end<'a>(books: &'a mut Books, receipt: &Receipt) -> Option<&'a mut Timestamp> {
    let held = books.entries.get_mut(&receipt.entry)?.held.as_mut()?;
    (held.2 == receipt.token).then_some(&mut held.1)
}

fn ending_of(outcome: &DeliveryOutcome) -> Ending {
    match outcome {
        DeliveryOutcome::Done => Ending::Done,
        DeliveryOutcome::Retry { .. } => Ending::Retry,
        DeliveryOutcome::Delay { .. } => Ending::PutBack,
        DeliveryOutcome::Quarantine { .. } => Ending::Quarantine,
    }
}
