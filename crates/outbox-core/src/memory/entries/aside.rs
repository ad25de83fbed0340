//! Taking entries out that fail, and putting them back, as dead letters do.

use super::{Entries, Entry, Standing};
use crate::delivery::Quarantined;
use crate::id::MessageId;
use crate::lease::EntryId;
use crate::memory::Removal;
use crate::time::Timestamp;

impl Entries {
    /// Takes an unsettled entry out, unless somebody has it.
    pub(in crate::memory) fn take_out(&mut self, id: MessageId) -> Removal {
        let found = self.entries.iter().find(|(_, e)| e.message.id == id);
        let Some((place, entry)) = found else {
            return Removal::Gone;
        };
        if matches!(entry.standing, Standing::Leased { .. }) {
            return Removal::InFlight;
        }
        let place = *place;
        match self.remove(place) {
            Some(entry) => Removal::Moved(Box::new(entry.quarantined(place))),
            None => Removal::Gone,
        }
    }

    /// Takes everything out of quarantine, oldest first.
    pub(in crate::memory) fn take_quarantined(&mut self) -> Vec<Quarantined> {
        std::mem::take(&mut self.quarantine)
    }

    /// Whether no unsettled entry has this message.
    pub(in crate::memory) fn lacks(&self, id: MessageId) -> bool {
        !self.entries.values().any(|entry| entry.message.id == id)
    }

    /// Puts an entry back at its old place, or at the end where that is none; whether it did.
    pub(in crate::memory) fn put_back(&mut self, resting: Quarantined, now: Timestamp) -> bool {
        let Some(message) = resting.message else {
            return false;
        };
        if !self.lacks(message.id) {
            return false;
        }
        let old = place(&resting.place).filter(|old| {
            old.major > 0 && old.major <= self.last_entry && !self.entries.contains_key(old)
        });
        let place = old.unwrap_or_else(|| {
            self.last_entry += 1;
            EntryId {
                major: self.last_entry,
                minor: 0,
            }
        });
        if !self.remembered.ids.contains(&message.id) {
            self.remembered.remember(message.id, now);
        }
        let entry = Entry {
            message: message.into(),
            enqueued_at: now,
            failures: resting.attempts,
            takeovers: 0,
            first_failed_at: Some(resting.first_failed_at),
            history: resting.history,
            standing: Standing::Ready,
            damaged: false,
            redrives: resting.redrives,
        };
        self.entries.insert(place, entry);
        self.ready.insert(place);
        true
    }
}

/// The entry that a text names.
fn place(text: &str) -> Option<EntryId> {
    let (major, minor) = text.split_once('-')?;
    Some(EntryId {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}
