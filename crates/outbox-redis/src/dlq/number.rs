//! The numbers of dead letters, and of their places in what they left: an entry's id in 64 bits, 42 for
//! its milliseconds, which last until the year 2109, and 22 for its second number.

use outbox_core::lease::EntryId;
use outbox_dlq::LetterId;

const MINOR_BITS: u32 = 22;
const MINORS: u64 = 1 << MINOR_BITS;
const MAJORS: u64 = 1 << (u64::BITS - MINOR_BITS);

fn pack(major: u64, minor: u64) -> Option<u64> {
    (major < MAJORS && minor < MINORS).then_some(major << MINOR_BITS | minor)
}

/// The number of the letter in an entry; `None` where the entry's id has no room in it.
pub(super) fn letter_id(entry: EntryId) -> Option<LetterId> {
    pack(entry.major, entry.minor).map(LetterId)
}

/// The id of a letter's entry.
pub(super) fn entry_id(letter: LetterId) -> EntryId {
    EntryId {
        major: letter.0 >> MINOR_BITS,
        minor: letter.0 % MINORS,
    }
}

/// The number in the name of a place, as `7-0`; 0 where there is none.
pub(super) fn position(place: &str) -> u64 {
    let last = place.rsplit(' ').next().unwrap_or_default();
    let (major, minor) = last.split_once('-').unwrap_or((last, "0"));
    let numbers = (major.parse(), minor.parse());
    match numbers {
        (Ok(major), Ok(minor)) => pack(major, minor).unwrap_or(u64::MAX),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_survives_being_packed() {
        for (major, minor) in [(0, 0), (1_764_105_600_123, 7), (MAJORS - 1, MINORS - 1)] {
            let entry = EntryId { major, minor };
            let letter = letter_id(entry);
            assert_eq!(letter.map(entry_id), Some(entry));
        }
        let late = EntryId {
            major: MAJORS,
            minor: 0,
        };
        assert_eq!(letter_id(late), None);
    }

    #[test]
    fn places_are_ordered_as_they_stood() {
        let places = [
            "nowhere",
            "1-0",
            "1-1",
            "2-0",
            "outbox row 9",
            "1764105600123-0",
        ];
        let positions: Vec<_> = places.into_iter().map(position).collect();
        assert!(positions.is_sorted(), "{positions:?}");
        assert_eq!((positions[0], positions[2]), (0, MINORS + 1));
    }
}
