//! Deliveries whose handler seems to kill its process: they are held one at a time, and not for ever.

use std::time::Duration;

use crate::delivery::Delivery;
use crate::status::AttemptRecord;
use crate::time::Timestamp;

/// How many takeovers in a row make a delivery suspect: one alone is anybody's bad luck.
const SUSPECT: u32 = 2;

/// How far apart suspects come back that cannot be held beside another.
const SPACING: Duration = Duration::from_millis(50);

/// The kind of failure of a delivery that was taken over too often.
const KIND: &str = "takeovers";

/// What a worker was handed out, by what it is to do with it.
#[derive(Default)]
pub(super) struct Sorted {
    /// To be handled.
    pub(super) sound: Vec<Delivery>,
    /// To be given back until then, because another suspect is held.
    pub(super) turned_away: Vec<(Delivery, Timestamp)>,
    /// To be quarantined for that.
    pub(super) hopeless: Vec<(Delivery, AttemptRecord)>,
}

pub(super) fn is_suspect(delivery: &Delivery) -> bool {
    delivery.takeovers >= SUSPECT
}

/// Sorts `deliveries` for a worker that holds a suspect already or does not.
pub(super) fn sort(
    deliveries: Vec<Delivery>,
    (holds_suspect, most): (bool, u32),
    now: Timestamp,
) -> Sorted {
    let (mut sorted, mut held) = (Sorted::default(), holds_suspect);
    for delivery in deliveries {
        if delivery.takeovers > most {
            let failure = failure(&delivery, most, now);
            sorted.hopeless.push((delivery, failure));
        } else if !is_suspect(&delivery) || !std::mem::replace(&mut held, true) {
            sorted.sound.push(delivery);
        } else {
            let place = u32::try_from(sorted.turned_away.len()).unwrap_or(u32::MAX);
            let until = now + SPACING.saturating_mul(place.saturating_add(1));
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
