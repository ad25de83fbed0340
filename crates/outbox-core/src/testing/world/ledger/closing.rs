use std::collections::BTreeMap;

use super::super::config::Guard;
use super::super::step::Number;
use super::{Books, Known, Poison, Ruling, Standing, hold};
use crate::delivery::Quarantined;
use crate::id::MessageId;
use crate::report::QueueStats;
use crate::status::MessageStatus;

/// What the stores hold, as they tell it themselves.
pub(in super::super) struct Remains {
    pub(in super::super) statuses: Vec<(MessageId, MessageStatus)>,
    pub(in super::super) quarantined: Vec<Quarantined>,
    /// `None` where the messages go to a publisher of the user's own.
    pub(in super::super) queue: Option<(QueueStats, Vec<Quarantined>)>,
}

impl Books {
    /// Outbox, queue and quarantine hold each message in one place.
    pub(in super::super) fn check_places(&self, remains: &Remains) -> Ruling {
        let mut unsent = BTreeMap::new();
        for (id, status) in &remains.statuses {
            let number = self.number(*id)?;
            let before = unsent.insert(number, *status);
            hold(before.is_none(), "each message is in one place", || {
                format!("message {number} stands twice in the outbox")
            })?;
        }
        for (number, known) in self.numbered() {
            let status = unsent.get(&number);
            let fits = match known.standing {
                Standing::Waiting | Standing::Claimed(_) => {
                    status.is_some_and(|status| *status != MessageStatus::Published)
                }
                Standing::Published => status.is_none_or(|s| *s == MessageStatus::Published),
                Standing::Quarantined => status.is_none(),
            };
            hold(fits, "nothing committed is lost", || {
                format!(
                    "message {number} is {:?}, but the outbox says {status:?}",
                    known.standing
                )
            })?;
        }
        let in_outbox = |known: &Known| known.standing == Standing::Quarantined;
        self.check_quarantine(&remains.quarantined, |place| self.row(place), in_outbox)?;
        let Some((stats, quarantined)) = &remains.queue else {
            return Ok(());
        };
        let in_queue = |known: &Known| known.quarantined_in_queue;
        self.check_quarantine(quarantined, |place| self.entry(place), in_queue)?;
        let open = self.entries.len();
        hold(
            stats.depth() == open as u64,
            "each message is in one place",
            || {
                format!(
                    "the queue holds {} entries, but {open} are open",
                    stats.depth()
                )
            },
        )
    }

    fn numbered(&self) -> impl Iterator<Item = (Number, &Known)> {
        (0..).zip(&self.messages)
    }

    /// A quarantine holds those messages, each once and whole.
    fn check_quarantine(
        &self,
        quarantined: &[Quarantined],
        number_at: impl Fn(&str) -> Option<Number>,
        belongs: impl Fn(&Known) -> bool,
    ) -> Ruling {
        let mut found = std::collections::BTreeSet::new();
        for one in quarantined {
            let number = match &one.message {
                Some(message) => self.number(message.id)?,
                None => number_at(&one.place).unwrap_or(Number::MAX),
            };
            let Some(known) = self.messages.get(number as usize) else {
                return hold(false, "each message is in one place", || {
                    format!(
                        "{} stands in quarantine, but nobody put it there",
                        one.place
                    )
                });
            };
            let payload = one.message.as_ref().map(|message| &message.payload);
            let whole = match payload {
                Some(payload) => *payload == known.payload,
                None => known.row_damaged || known.entry_damaged,
            };
            let fits = belongs(known) && whole && found.insert(number);
            hold(fits, "each message is in one place", || {
                format!("message {number} stands in quarantine, but it is {known:?}")
            })?;
        }
        let missing = self
            .numbered()
            .find(|(number, known)| belongs(known) && !found.contains(number));
        hold(missing.is_none(), "nothing committed is lost", || {
            format!("{missing:?} is missing in quarantine")
        })
    }

    /// Every message that a producer was told is committed is there: `planned` of them.
    pub(in super::super) fn check_committed(&self, planned: usize) -> Ruling {
        let produced = self.messages.iter().filter(|known| known.produced);
        let count = produced.count();
        hold(count == planned, "a commit that was told is one", || {
            format!("producers committed {planned} messages, {count} of them are there")
        })
    }

    /// Once the faults have stopped, every message ends published, handled or in quarantine.
    pub(in super::super) fn check_end(&self, with_queue: bool) -> Ruling {
        for (number, known) in self.numbered() {
            let quarantined = known.standing == Standing::Quarantined;
            let arrived = known.standing == Standing::Published || quarantined;
            hold(arrived, "every message ends", || {
                format!("message {number} is still in the outbox: {known:?}")
            })?;
            if !with_queue || quarantined {
                continue;
            }
            let ended = known.handled > 0
                || known.quarantined_in_queue
                || self.config.guard == Guard::AtMostOnce;
            hold(ended, "every message ends", || {
                format!("message {number} was never handled: {known:?}")
            })?;
            hold(
                known.handled == 0 || known.poison != Poison::Handler,
                "the rejected has no effect",
                || format!("message {number} was handled, but it was rejected"),
            )?;
        }
        let open = self.entries.len();
        hold(open == 0, "every message ends", || {
            format!("{open} entries are still in the queue")
        })
    }

    /// How many messages there are, how many have an effect, how many are in quarantine.
    pub(in super::super) fn census(&self) -> (u64, u64, u64) {
        let count = |which: fn(&Known) -> bool| {
            self.messages.iter().filter(|known| which(known)).count() as u64
        };
        (
            self.messages.len() as u64,
            count(|known| known.handled > 0),
            count(|k| k.quarantined_in_queue || k.standing == Standing::Quarantined),
        )
    }
}
