//! Deliveries whose handler seems to kill its process: the longer, the fewer of them are held together,
//! and not for ever.

use std::time::Duration;

use crate::delivery::Delivery;
use crate::status::AttemptRecord;
use crate::time::Timestamp;

/// How many takeovers in a row make a delivery suspect: one alone is anybody's bad luck.
const SUSPECT: u32 = 2;

/// How many times fewer suspects are held together after each takeover: what kills is looked for as in
/// a search, and most of those that died with it by chance are soon handled.
const SPLIT: usize = 32;

/// How many takeovers a suspect can still bear when it is first held alone: what is not suspect yet is
/// held beside it, and may kill its worker, too.
const SPARE: u32 = 2;

/// How far apart groups of suspects come back that cannot be held beside another.
const SPACING: Duration = Duration::from_millis(50);

/// The kind of failure of a delivery that was taken over too often.
const KIND: &str = "takeovers";

/// What a worker was handed out, by what it is to do with it.
#[derive(Default)]
pub(super) struct Sorted {
    /// To be handled.
    pub(super) sound: Vec<Delivery>,
    /// To be given back until then, because other suspects are held.
    pub(super) turned_away: Vec<(Delivery, Timestamp)>,
    /// To be quarantined for that.
    pub(super) hopeless: Vec<(Delivery, AttemptRecord)>,
}

/// Suspects that are held.
#[derive(Clone, Copy)]
pub(super) struct Suspects {
    count: usize,
    /// How many at most may be held together, so that none of them is quarantined for another.
    together: usize,
}

impl Suspects {
    /// Nobody is suspect.
    pub(super) const NONE: Self = Self {
        count: 0,
        together: usize::MAX,
    };

    /// Those among deliveries that were taken over so often, where `most` takeovers are allowed.
    pub(super) fn among(takeovers: impl Iterator<Item = u32>, most: u32) -> Self {
        takeovers
            .filter(|takeovers| *takeovers >= SUSPECT)
            .map(|takeovers| Self {
                count: 1,
                together: together(takeovers, most),
            })
            .fold(Self::NONE, Self::and)
    }

    /// These and those.
    pub(super) fn and(self, others: Self) -> Self {
        Self {
            count: self.count + others.count,
            together: self.together.min(others.together),
        }
    }

    /// Whether they may be held together.
    pub(super) fn fit(self) -> bool {
        self.count <= self.together
    }
}

pub(super) fn is_suspect(delivery: &Delivery) -> bool {
    delivery.takeovers >= SUSPECT
}

/// How many may be held together with a suspect.
fn together(takeovers: u32, most: u32) -> usize {
    SPLIT.saturating_pow(most.saturating_sub(takeovers).saturating_sub(SPARE))
}

/// Sorts `deliveries` for a worker that holds `held`.
pub(super) fn sort(
    deliveries: Vec<Delivery>,
    (mut held, most): (Suspects, u32),
    now: Timestamp,
) -> Sorted {
    let mut sorted = Sorted::default();
    for delivery in deliveries {
        if delivery.takeovers > most {
            let failure = failure(&delivery, most, now);
            sorted.hopeless.push((delivery, failure));
            continue;
        }
        let with_it = held.and(Suspects::among([delivery.takeovers].into_iter(), most));
        if !is_suspect(&delivery) || with_it.fit() {
            held = with_it;
            sorted.sound.push(delivery);
        } else {
            let group = sorted.turned_away.len() / together(delivery.takeovers, most);
            let group = u32::try_from(group).unwrap_or(u32::MAX);
            let until = now + SPACING.saturating_mul(group.saturating_add(1));
            sorted.turned_away.push((delivery, until));
        }
    }
    sorted
}

fn failure(delivery: &Delivery, most: u32, now: Timestamp) -> AttemptRecord {
    AttemptRecord {
        at: now,
        duration: Duration::ZERO,
        kind: KIND.to_owned(),
        error: format!(
            "taken over {} times in a row from workers that died with it, where {most} are allowed",
            delivery.takeovers
        ),
    }
}
