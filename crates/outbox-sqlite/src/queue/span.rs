use outbox_core::error::{OutboxError, Result};
use outbox_core::lease::EntryId;

/// How many bits of a place number the entries of one queue.
const BITS: u32 = 48;

/// The row numbers that belong to one queue: a span of their own, so that its entries lie together
/// in order and need no index besides, however many queues share the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    base: i64,
}

impl Span {
    /// The span of queue number `queue`.
    pub(crate) fn of(queue: i64) -> Result<Self> {
        let most = i64::MAX >> BITS;
        if (1..=most).contains(&queue) {
            return Ok(Self {
                base: queue << BITS,
            });
        }
        Err(OutboxError::Limit {
            what: "queues in one file".to_owned(),
            actual: queue.unsigned_abs(),
            limit: most.unsigned_abs(),
        })
    }

    /// The place before the first entry.
    pub(crate) fn base(self) -> i64 {
        self.base
    }

    /// The last place.
    pub(super) fn last(self) -> i64 {
        self.base | ((1 << BITS) - 1)
    }

    /// The entry at `place`, as the queue's users know it.
    pub(crate) fn entry(self, place: i64) -> EntryId {
        EntryId {
            major: (place - self.base).unsigned_abs(),
            minor: 0,
        }
    }

    /// Where `entry` lies; `None` where no entry of this queue can be called that.
    pub(super) fn place(self, entry: EntryId) -> Option<i64> {
        let place = self.base.checked_add_unsigned(entry.major)?;
        (place > self.base && place <= self.last() && entry.minor == 0).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_share_no_place() {
        let (first, second) = (Span::of(1).unwrap(), Span::of(2).unwrap());
        assert_eq!(first.last() + 1, second.base());
        assert!(Span::of(32_767).unwrap().last() == i64::MAX);
    }

    #[test]
    fn an_entry_is_found_again_by_its_name() {
        let span = Span::of(7).unwrap();
        let place = span.base() + 12;
        assert_eq!(span.entry(place).to_string(), "12-0");
        assert_eq!(span.place(span.entry(place)), Some(place));
    }

    #[test]
    fn a_name_of_no_entry_leads_nowhere() {
        let span = Span::of(32_767).unwrap();
        for (major, minor) in [(0, 0), (1 << 48, 0), (u64::MAX, 0), (1, 1)] {
            assert_eq!(
                span.place(EntryId { major, minor }),
                None,
                "{major}-{minor}"
            );
        }
    }

    #[test]
    fn there_is_a_greatest_number_of_queues() {
        for queue in [0, -1, 32_768, i64::MAX] {
            assert!(matches!(Span::of(queue), Err(OutboxError::Limit { .. })));
        }
    }
}
