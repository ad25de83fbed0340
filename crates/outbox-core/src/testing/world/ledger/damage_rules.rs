use super::super::step::{Number, Step};
use super::{Books, Ruling, Standing, hold};
use crate::id::MessageId;
use crate::time::Timestamp;

impl Books {
    /// A row has become unreadable: that of the message number `number`.
    pub(in super::super) fn row_damaged(&mut self, number: u64) -> Ruling {
        let known = usize::try_from(number).ok();
        if let Some(known) = known.and_then(|number| self.messages.get_mut(number)) {
            known.row_damaged = true;
        }
        Ok(())
    }

    /// An entry has become unreadable.
    pub(in super::super) fn entry_damaged(&mut self, id: MessageId) -> Ruling {
        let number = self.number(id)?;
        self.at_mut(number).entry_damaged = true;
        Ok(())
    }

    /// The outbox has moved an unreadable row to its quarantine.
    pub(super) fn set_aside(&mut self, now: Timestamp, place: &str) -> Ruling {
        let number = self.row(place);
        let known = number.and_then(|number| self.messages.get(number as usize));
        let waits = |standing| matches!(standing, Standing::Waiting | Standing::Claimed(_));
        let damaged = known.is_some_and(|known| known.row_damaged && waits(known.standing));
        hold(damaged, "only the damaged is unreadable", || {
            format!("{place} was set aside: {known:?}")
        })?;
        let number = number.unwrap_or_default();
        self.note(now, Step::SetAside { message: number });
        self.close(number, Standing::Quarantined);
        Ok(())
    }

    /// The queue has moved an unreadable entry to its quarantine, when a worker whose clock said
    /// `moment` took from it.
    pub(in super::super) fn entry_set_aside(
        &mut self,
        now: Timestamp,
        place: &str,
        moment: Timestamp,
    ) -> Ruling {
        self.latest = self.latest.max(moment);
        let number = self.entry(place);
        let known = number.and_then(|number| self.messages.get(number as usize));
        let damaged = known.is_some_and(|known| known.entry_damaged);
        hold(damaged, "only the damaged is unreadable", || {
            format!("entry {place} was set aside: {known:?}")
        })?;
        let number = number.unwrap_or_default();
        self.note(now, Step::EntrySetAside { message: number });
        self.at_mut(number).quarantined_in_queue = true;
        let before = self.entries.len();
        self.entries.retain(|_, book| book.message != number);
        hold(
            self.entries.len() < before,
            "each message is in one place",
            || format!("entry {place} was set aside, but it had left the queue"),
        )
    }

    /// The message of a row, by its name in reports.
    pub(super) fn row(&self, place: &str) -> Option<Number> {
        let sequence: Number = place.strip_prefix("row ")?.parse().ok()?;
        sequence.checked_sub(1)
    }

    /// The message of an entry, by its name in reports.
    pub(super) fn entry(&self, place: &str) -> Option<Number> {
        let (major, _) = place.split_once('-')?;
        let place = major.parse::<usize>().ok()?.checked_sub(1)?;
        self.added.get(place).copied()
    }
}
