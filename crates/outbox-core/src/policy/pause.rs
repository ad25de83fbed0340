use std::time::Duration;

use crate::time::Timestamp;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// How a store that fails is left alone: for pauses that double from 10 ms to 5 s.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    failures: u32,
    until: Option<Timestamp>,
}

impl Pause {
    /// The store failed at `now`.
    pub(crate) fn failed(&mut self, now: Timestamp) {
        let doublings = self.failures.min(10);
        self.failures += 1;
        let pause = Duration::from_millis(10) * (1 << doublings);
        self.until = Some(now + pause.min(LONGEST));
    }

    /// The store answered.
    pub(crate) fn answered(&mut self) {
        *self = Self::default();
    }

    /// Until when the store is left alone, where it is at `now`; a pause that a clock which was set
    /// back since would make longer is over.
    pub(crate) fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.until?;
        (now < until && until.since(now) <= LONGEST).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_seconds_and_end_with_an_answer() {
        let now = Timestamp::EPOCH;
        let mut pause = Pause::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            pause.failed(now);
            waits.push(pause.until(now).unwrap().since(now).as_millis());
        }
        assert_eq!(waits[..4], [10, 20, 40, 80]);
        assert_eq!(waits[11], 5_000);
        pause.answered();
        assert_eq!(pause.until(now), None);
    }

    #[test]
    fn a_clock_that_is_set_back_ends_a_pause() {
        let now = Timestamp::EPOCH + 2 * LONGEST;
        let mut pause = Pause::default();
        pause.failed(now);
        assert!(pause.until(now).is_some());
        assert_eq!(pause.until(Timestamp::EPOCH), None);
    }
}
