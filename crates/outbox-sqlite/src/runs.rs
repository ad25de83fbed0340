//! Runs of numbers, for statements that take a range faster than a list.

use std::ops::Range;

/// The places of the longest run of numbers without a gap in `rows`, which ascend.
pub(crate) fn longest_run(rows: &[i64]) -> Range<usize> {
    let mut end = 0;
    let runs = rows.chunk_by(|one, next| one + 1 == *next).map(|run| {
        let start = end;
        end += run.len();
        start..end
    });
    runs.max_by_key(Range::len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_run_has_no_gap() {
        assert_eq!(longest_run(&[7]), 0..1);
        assert_eq!(longest_run(&[1, 3, 4, 5, 8, 9]), 1..4);
        assert_eq!(longest_run(&[4, 5, 6, 9]), 0..3);
        assert_eq!(longest_run(&[2, 8, 9]), 1..3);
    }
}
