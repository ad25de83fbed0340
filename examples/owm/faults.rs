//! Failures on demand, so that retries can be seen at work.

use outbox::HandlerError;
use outbox::id::Entropy;

/// Attempts that may fail; the next one succeeds, so that everything is handled in the end.
const FAILING_ATTEMPTS: u32 = 3;

/// Fails a share of all attempts, the same ones in every run with the same seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// How likely an attempt fails, from 0 to 1.
    pub(crate) rate: f64,
    pub(crate) seed: u64,
}

impl Faults {
    /// Whether any attempt fails.
    pub(crate) fn any(&self) -> bool {
        self.rate > 0.0
    }

    /// Fails where it is this attempt's turn to fail.
    pub(crate) fn strike(&self, city_id: i64, attempt: u32) -> Result<(), HandlerError> {
        if attempt <= FAILING_ATTEMPTS && self.draw(city_id, attempt) < self.rate {
            return Err(HandlerError::retry("injected failure"));
        }
        Ok(())
    }

    /// A number in `[0, 1)` that depends on nothing but the seed, the city and the attempt.
    fn draw(&self, city_id: i64, attempt: u32) -> f64 {
        let parts = [self.seed, city_id.unsigned_abs(), u64::from(attempt)];
        Entropy::seeded(parts.into_iter().fold(0, mix)).fraction()
    }
}

/// Folds `part` into `sum`, so that neighbouring parts lie far apart.
fn mix(sum: u64, part: u64) -> u64 {
    (sum ^ part)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}
