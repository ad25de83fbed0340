use std::collections::BTreeMap;

use outbox_core::delivery::Quarantined;
use outbox_core::time::Timestamp;

use crate::letter::{Counts, DeadLetter, Filter, Group, LetterId, Listing, Page};
use crate::origin::Origin;
use crate::quarantine::{Action, ActionKind, AuditRecord, RedriveCursor};

/// The dead letters of a [`super::MemoryQuarantine`], and what was done to them.
#[derive(Debug, Default)]
pub(super) struct Letters {
    pub(super) held: BTreeMap<LetterId, Held>,
    pub(super) audit: Vec<AuditRecord>,
    last: u64,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) letter: DeadLetter,
    /// Whether it came from elsewhere, so that its place is none of ours.
    pub(super) imported: bool,
}

impl Held {
    pub(super) fn cursor(&self) -> RedriveCursor {
        RedriveCursor {
            origin: self.letter.origin.clone(),
            position: position(&self.letter.place),
            id: self.letter.id,
        }
    }
}

/// The number in the name of a place: `row 7`, `7-0`.
fn position(place: &str) -> u64 {
    let number = place.rsplit(' ').next().unwrap_or_default();
    let number = number.split('-').next().unwrap_or_default();
    number.parse().unwrap_or(0)
}

impl Letters {
    /// Adds what came to rest.
    pub(super) fn add(&mut self, origin: &Origin, resting: Quarantined, at: Timestamp) {
        let message = resting.message;
        let (kind, error) = (resting.kind, resting.error);
        let letter = DeadLetter {
            id: LetterId(0),
            origin: origin.clone(),
            place: resting.place,
            fingerprint: DeadLetter::fingerprint_of(message.as_ref(), &kind, &error),
            message,
            body: None,
            attempts: resting.attempts,
            redrives: resting.redrives,
            history: resting.history,
            first_failed_at: resting.first_failed_at,
            last_failed_at: resting.last_failed_at,
            kind,
            error,
            quarantined_at: at,
            problem: None,
        };
        self.insert(letter, false);
    }

    pub(super) fn insert(&mut self, mut letter: DeadLetter, imported: bool) {
        self.last += 1;
        letter.id = LetterId(self.last);
        self.held.insert(letter.id, Held { letter, imported });
    }

    /// Whether a letter is there already that `letter` is a copy of.
    pub(super) fn has(&self, letter: &DeadLetter) -> bool {
        let id = |letter: &DeadLetter| letter.message.as_ref().map(|message| message.id);
        let same = |held: &Held| {
            let held = &held.letter;
            let place = |letter: &DeadLetter| (letter.place.clone(), letter.quarantined_at);
            held.origin == letter.origin
                && id(held) == id(letter)
                && (id(letter).is_some() || place(held) == place(letter))
        };
        self.held.values().any(same)
    }

    pub(super) fn meant<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Held> {
        self.held
            .values()
            .filter(|held| filter.matches(&held.letter))
    }

    pub(super) fn list(&self, filter: &Filter, page: Page) -> Listing {
        let behind = |held: &&Held| page.after.is_none_or(|after| held.letter.id > after);
        let mut meant = self.meant(filter).filter(behind);
        let letters: Vec<_> = meant
            .by_ref()
            .take(page.max)
            .map(|held| held.letter.clone())
            .collect();
        let next = letters.last().map(|letter| letter.id);
        Listing {
            next: next.filter(|_| meant.next().is_some()),
            letters,
        }
    }

    pub(super) fn count(&self, filter: &Filter, max: usize) -> Counts {
        let meant = || self.meant(filter).map(|held| &held.letter);
        let mut groups: BTreeMap<_, Group> = BTreeMap::new();
        for letter in meant() {
            let new = || group(letter);
            add_to(groups.entry(letter.fingerprint).or_insert_with(new), letter);
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.letters));
        groups.truncate(max);
        let messages = || meant().filter_map(|letter| letter.message.as_ref());
        Counts {
            total: meant().count() as u64,
            unreadable: meant().filter(|letter| letter.message.is_none()).count() as u64,
            came_back: meant().filter(|letter| letter.redrives > 0).count() as u64,
            oldest: meant().map(|letter| letter.quarantined_at).min(),
            origins: greatest(meant().map(|letter| letter.origin.clone()), usize::MAX),
            topics: greatest(messages().map(|message| message.topic.clone()), max),
            kinds: greatest(messages().map(|message| message.kind.name.clone()), max),
            groups,
        }
    }

    /// Records a step of `action`.
    pub(super) fn record(
        &mut self,
        kind: ActionKind,
        (action, what): (&Action, String),
        letters: u64,
        now: Timestamp,
    ) {
        if let Some(known) = self
            .audit
            .iter_mut()
            .find(|known| known.action.id == action.id)
        {
            known.letters += letters;
            known.ended_at = now;
            return;
        }
        self.audit.push(AuditRecord {
            number: self.audit.len() as u64 + 1,
            kind,
            action: action.clone(),
            what,
            letters,
            began_at: now,
            ended_at: now,
        });
    }
}

fn group(letter: &DeadLetter) -> Group {
    Group {
        fingerprint: letter.fingerprint,
        letters: 0,
        redrives: 0,
        error_kind: letter.kind.clone(),
        kind: letter
            .message
            .as_ref()
            .map(|message| message.kind.name.clone()),
        error: letter.error.clone(),
        first: letter.quarantined_at,
        last: letter.quarantined_at,
    }
}

fn add_to(group: &mut Group, letter: &DeadLetter) {
    group.letters += 1;
    group.redrives = group.redrives.max(letter.redrives);
    group.first = group.first.min(letter.quarantined_at);
    group.last = group.last.max(letter.quarantined_at);
}

/// How often each value occurs, the greatest first, no more than `max` of them.
fn greatest<T: Ord>(values: impl Iterator<Item = T>, max: usize) -> Vec<(T, u64)> {
    let mut counts: BTreeMap<T, u64> = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.truncate(max);
    counts
}
