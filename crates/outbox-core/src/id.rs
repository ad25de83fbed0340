//! Identities: of messages, of holders of leases, and the entropy that they are made from.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// Identity of a message: a UUIDv7, made once at append and the same in every attempt and at every
/// destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[doc(alias = "task_id")]
#[doc(alias = "EventId")]
#[doc(alias = "event_id")]
pub struct MessageId(Uuid);

impl MessageId {
    /// A new id whose leading 48 bits are the milliseconds of `now`, so that ids sort by creation.
    #[must_use]
    pub fn new(now: Timestamp, entropy: &Entropy) -> Self {
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        let mut random = [0_u8; 10];
        entropy.fill(&mut random);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// The id with exactly these 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl FromStr for MessageId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self).map_err(InvalidId)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A text that is no message id.
#[derive(Clone, Debug, thiserror::Error)]
#[error("not a message id (a UUID)")]
pub struct InvalidId(#[source] uuid::Error);

/// Identity of one incarnation of a relay or worker: made anew at each start, never a host name, so
/// that a restarted process cannot be mistaken for its predecessor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[doc(alias = "processor_name")]
pub struct WorkerId(Uuid);

impl WorkerId {
    /// A new, random incarnation id.
    #[must_use]
    pub fn new(entropy: &Entropy) -> Self {
        let mut random = [0_u8; 16];
        entropy.fill(&mut random);
        Self(uuid::Builder::from_random_bytes(random).into_uuid())
    }

    /// The id with exactly these 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes of the id.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A shared source of randomness: seeded by the system, or by a number where a run must be repeated.
///
/// Ids, jitter and tokens all draw from it, so one seed fixes them all.
#[derive(Clone)]
pub struct Entropy(Arc<Mutex<StdRng>>);

impl Entropy {
    /// Entropy seeded by the operating system.
    #[must_use]
    pub fn from_system() -> Self {
        Self(Arc::new(Mutex::new(rand::make_rng())))
    }

    /// Entropy that answers the same sequence for the same seed, within one release of this crate.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// Fills `bytes` with random bytes.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.with(|rng| rng.fill_bytes(bytes));
    }

    /// A random number, all 64 bits used.
    #[must_use]
    pub fn next_u64(&self) -> u64 {
        self.with(Rng::next_u64)
    }

    /// A random number in `[0, 1)`, evenly spread, with 53 bits of precision.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        const STEPS: f64 = (1_u64 << 53) as f64;
        (self.next_u64() >> 11) as f64 / STEPS
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_is_a_uuid_of_version_7_that_sorts_by_time() {
        let entropy = Entropy::seeded(1);
        let early = MessageId::new(Timestamp::from_millis(1_000), &entropy);
        let late = MessageId::new(Timestamp::from_millis(2_000), &entropy);
        assert!(early < late);
        assert_eq!(early.as_bytes()[6] >> 4, 7, "{early}");
    }

    #[test]
    fn the_same_seed_gives_the_same_ids() {
        let make = |seed| MessageId::new(Timestamp::EPOCH, &Entropy::seeded(seed));
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }

    #[test]
    fn an_id_survives_its_text() {
        let id = MessageId::new(Timestamp::from_millis(5), &Entropy::seeded(3));
        assert_eq!(id.to_string().parse::<MessageId>().unwrap(), id);
        assert!("not an id".parse::<MessageId>().is_err());
    }

    #[test]
    fn fractions_stay_below_one() {
        let entropy = Entropy::seeded(9);
        assert!(
            (0..10_000)
                .map(|_| entropy.fraction())
                .all(|f| (0.0..1.0).contains(&f))
        );
    }
}
