use std::time::Duration;

use outbox_core::error::FULL_RETRY;
use tokio::time::Instant;

/// How much of what a redrive fell behind its rate, as while it waited for room, it catches up.
const CATCHES_UP: Duration = Duration::from_secs(1);

/// The longest pause of one who waits for room.
const LONGEST: Duration = Duration::from_secs(5);

/// How long one who waits for room pauses before he looks for it again.
pub(crate) struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(FULL_RETRY)
    }
}

impl Patience {
    /// The next pause: twice as long as the last one.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (2 * pause).min(LONGEST);
        pause
    }
}

/// Keeps a redrive at its rate.
pub(crate) struct Pace {
    rate: Option<u32>,
    /// When the first message would have gone, had it always kept its rate.
    started: Instant,
}

impl Pace {
    /// As many in a second as `rate` says, from now on; as many as can be where there is none.
    pub(crate) fn new(rate: Option<u32>) -> Self {
        Self {
            rate,
            started: Instant::now(),
        }
    }

    /// When the next message may go, after so many have; at once where there is no rate.
    pub(crate) fn due(&mut self, sent: u64) -> Option<Instant> {
        let rate = self.rate?;
        let takes = Duration::from_secs_f64(sent as f64 / f64::from(rate));
        let behind = self.started.elapsed().saturating_sub(takes);
        self.started += behind.saturating_sub(CATCHES_UP);
        Some(self.started + takes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_finds_no_room_asks_ever_more_rarely() {
        let mut patience = Patience::default();
        let pauses: Vec<_> = (0..8).map(|_| patience.next().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_long_wait_the_rate_is_kept_and_no_more_than_a_second_caught_up() {
        let mut pace = Pace::new(Some(10));
        let in_seconds = |seconds: f64| {
            let now = Instant::now();
            Some(match seconds < 0.0 {
                true => now - Duration::from_secs_f64(-seconds),
                false => now + Duration::from_secs_f64(seconds),
            })
        };
        assert_eq!(pace.due(10), in_seconds(1.0));
        tokio::time::advance(Duration::from_secs(601)).await;
        assert_eq!(pace.due(10), in_seconds(-1.0));
        assert_eq!(pace.due(20), in_seconds(0.0));
        assert_eq!(pace.due(30), in_seconds(1.0));
        assert_eq!(Pace::new(None).due(30), None);
    }
}
