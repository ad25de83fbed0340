use std::collections::HashSet;

/// After a full claim, beside what may be a backlog, one claim in so many looks at fresh rows.
const EVERY: u32 = 4;
/// The most fresh rows that are handed out beside one backlog: each is remembered until the end of
/// it, so that the claims which go through the backlog pass over it.
const MOST: usize = 1 << 16;

/// The share of claims that fresh rows have while a backlog is handed out in order.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// How many claims were full since one was not.
    full: u32,
    /// Fresh rows were looked at up to here; `None` where there is no backlog.
    looked: Option<i64>,
    /// Rows in front of that which were handed out as fresh.
    handed_out: HashSet<i64>,
}

impl Share {
    /// Notes that a claim in order found as many rows as it asked for, or fewer.
    pub(super) fn claimed(&mut self, full: bool) {
        self.full = if full { self.full.saturating_add(1) } else { 0 };
    }

    /// Where it is the turn of fresh rows: those behind which row.
    pub(super) fn take_turn(&mut self) -> Option<i64> {
        let due = self.full % EVERY == 1;
        if !due || self.handed_out.len() >= MOST {
            return None;
        }
        self.full += 1;
        // The first turn only finds out where the backlog ends.
        Some(self.looked.unwrap_or(i64::MAX))
    }

    /// Notes that fresh rows were looked at up to `end`, and that `rows` of them were handed out.
    pub(super) fn looked(&mut self, end: i64, rows: impl Iterator<Item = i64>) {
        self.looked = Some(end);
        self.handed_out.extend(rows);
    }

    /// Up to which row fresh ones were looked at.
    pub(super) fn end(&self) -> i64 {
        self.looked.unwrap_or(0)
    }

    /// Whether a row was handed out as fresh.
    pub(super) fn has(&self, seq: i64) -> bool {
        self.handed_out.contains(&seq)
    }

    /// Notes that all rows up to `high` were met in order: where none of those that were looked at is
    /// left, the backlog is over.
    pub(super) fn passed(&mut self, high: i64) {
        if self.looked.is_some_and(|looked| looked <= high) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backlogged() -> Share {
        let mut share = Share::default();
        share.claimed(true);
        share
    }

    #[test]
    fn fresh_rows_have_no_turn_before_there_is_a_backlog() {
        let mut share = Share::default();
        assert_eq!(share.take_turn(), None);
        share.claimed(true);
        share.claimed(false);
        assert_eq!(share.take_turn(), None);
    }

    #[test]
    fn beside_a_backlog_one_claim_in_four_is_theirs() {
        let mut share = backlogged();
        let turns = (0..4 * EVERY).filter(|_| {
            let turn = share.take_turn();
            if turn.is_none() {
                share.claimed(true);
            }
            turn.is_some()
        });
        assert_eq!(turns.count(), 4);
    }

    #[test]
    fn a_row_is_remembered_until_the_backlog_is_over() {
        let mut share = backlogged();
        assert_eq!(share.take_turn(), Some(i64::MAX));
        share.looked(20, std::iter::empty());
        share.looked(30, [21, 22].into_iter());
        share.passed(29);
        assert!(share.has(21) && share.has(22) && !share.has(23));
        share.passed(30);
        assert!(!share.has(22));
        assert_eq!(share.take_turn(), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut share = backlogged();
        share.looked(1 << 20, 0..MOST as i64);
        assert_eq!(share.take_turn(), None);
    }
}
