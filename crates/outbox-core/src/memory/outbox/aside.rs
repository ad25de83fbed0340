//! Taking messages out that fail, and putting them back, as dead letters do.

use super::claim::place;
use super::port::MemoryOutbox;
use super::state::{Row, State};
use crate::delivery::Quarantined;
use crate::id::MessageId;
use crate::lease::Sequence;
use crate::memory::Removal;
use crate::time::Timestamp;

impl MemoryOutbox {
    /// Takes an unsent message out, unless a relay may be sending it at `now`; the caller has it
    /// then, and it is in no quarantine.
    #[must_use]
    pub fn take_out(&self, id: MessageId, now: Timestamp) -> Removal {
        let removal = self.state().take_out(id, now);
        self.wake_if(matches!(removal, Removal::Moved(_)));
        removal
    }

    /// Takes everything out of quarantine, oldest first.
    #[must_use]
    pub fn take_quarantined(&self) -> Vec<Quarantined> {
        std::mem::take(&mut self.state().quarantined)
    }

    /// Whether [`MemoryOutbox::put_back`] would put a message with this id back.
    #[must_use]
    pub fn lacks(&self, id: MessageId) -> bool {
        !self.state().ids.contains(&id)
    }

    /// Puts a message back that came out of quarantine: in its old place, or at the end where its
    /// sequence is 0. It keeps its attempts and history. Whether it did: not where its id is there
    /// already, or where nobody can read it.
    #[must_use]
    pub fn put_back(&self, resting: Quarantined) -> bool {
        let put = self.state().restore(resting);
        self.wake_if(put);
        put
    }
}

impl State {
    fn take_out(&mut self, id: MessageId, now: Timestamp) -> Removal {
        let Some(row) = self.rows.values().find(|row| row.message.id == id) else {
            return Removal::Gone;
        };
        let held = self.is_in_flight(row) && self.lease.owner.is_some();
        if held || (self.lease.is_live(now) && row.waits_until.is_none_or(|until| until <= now)) {
            return Removal::InFlight;
        }
        let sequence = row.message.sequence;
        self.ids.remove(&id);
        match self.rows.remove(&sequence) {
            Some(row) => Removal::Moved(Box::new(failed(row, now))),
            None => Removal::Gone,
        }
    }

    fn restore(&mut self, resting: Quarantined) -> bool {
        let Some(mut message) = resting.message else {
            return false;
        };
        if self.ids.contains(&message.id) {
            return false;
        }
        if message.sequence == Sequence(0) || self.rows.contains_key(&message.sequence) {
            self.last_sequence += 1;
            message.sequence = Sequence(self.last_sequence);
        }
        self.ids.insert(message.id);
        let row = Row {
            waits_until: None,
            blocks_key: true,
            claimed: None,
            failures: resting.attempts,
            first_failed_at: Some(resting.first_failed_at),
            history: resting.history,
            unreadable: false,
            redrives: resting.redrives,
            message,
        };
        self.rows.insert(row.message.sequence, row);
        true
    }
}

/// The record of a row that has failed so far.
fn failed(row: Row, now: Timestamp) -> Quarantined {
    let last = row.history.last();
    let (kind, error) = last.map_or_else(Default::default, |last| {
        (last.kind.clone(), last.error.clone())
    });
    let last_failed_at = last.map_or(now, |last| last.at);
    Quarantined {
        place: place(row.message.sequence),
        attempts: row.failures,
        first_failed_at: row.first_failed_at.unwrap_or(last_failed_at),
        last_failed_at,
        kind,
        error,
        redrives: row.redrives,
        history: row.history,
        message: Some(row.message),
    }
}
