use std::time::Duration;

use outbox_core::error::{ConfigError, OutboxError, Result};
use outbox_core::id::MessageId;
use outbox_core::time::Timestamp;

use crate::keys::Keys;

/// Ids that one bucket is made for: few enough for the server to keep it packed (it does up to 512),
/// and many enough for the bucket's own key to weigh little.
const IDS_A_BUCKET: u64 = 128;

/// The most rotations that an id may be remembered for: each is one more bucket to look into.
const MOST_ROTATIONS: u64 = 64;

/// How a [`crate::RedisDeduplicationCache`] remembers the ids that are done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DedupLayout {
    /// A key for each id, forgotten to the millisecond: simple, and some 150 bytes an id. The default.
    #[default]
    Plain,
    /// Ids in packed buckets, some 25 bytes an id: for more than a million ids a day.
    Compact(CompactLayout),
}

/// The shape of a cache in the compact layout.
///
/// Ids are fields of hashes that are small enough for the server to keep them packed. Time is cut
/// into rotations, and all ids that end in one rotation go with it, so that an id is remembered for
/// its time, rounded up to whole rotations, and for up to one rotation more.
///
/// All who share a cache give it the same shape; another one is refused, because it would find
/// nothing of what the first has remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactLayout {
    /// The longest time that an id may be remembered; 14 days by default, at least `rotation`, at
    /// most 64 of them.
    pub longest: Duration,
    /// How coarsely ids are forgotten; 7 days by default, at least 1 s. Each rotation in `longest`
    /// is one more bucket to look into for every id.
    pub rotation: Duration,
    /// How many ids are expected in a rotation; 10 million by default, from 1 to 10^12. Four times
    /// as many still fit; beyond that the server unpacks buckets, and an id takes three times as
    /// much. Far fewer leave buckets nearly empty, which costs as much as a key for each id.
    pub expected: u64,
}

impl Default for CompactLayout {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self {
            longest: DAY * 14,
            rotation: DAY * 7,
            expected: 10_000_000,
        }
    }
}

impl DedupLayout {
    /// What is to be the same for all who share a cache, in words.
    pub(super) fn shape(&self) -> String {
        match self {
            Self::Plain => "plain".to_owned(),
            Self::Compact(compact) => format!(
                "compact: {} ms in rotations of {} ms over {} buckets",
                compact.longest.as_millis(),
                compact.rotation.as_millis(),
                compact.shards()
            ),
        }
    }

    pub(super) fn check(&self, error: &mut ConfigError) {
        let Self::Compact(compact) = self else {
            return;
        };
        if compact.rotation < Duration::from_secs(1) {
            error.add("rotation", "is shorter than 1 s");
        }
        if compact.longest < compact.rotation {
            error.add("longest", "is shorter than `rotation`");
        } else if compact.rotations_in(compact.longest) > MOST_ROTATIONS {
            let problem = format!("is more than {MOST_ROTATIONS} times `rotation`");
            error.add("longest", problem);
        }
        if !(1..=1_000_000_000_000).contains(&compact.expected) {
            error.add("expected", "is not from 1 to 10^12");
        }
    }

    /// The rotation that holds `at`; `None` where there are none.
    pub(super) fn period(&self, at: Timestamp) -> Option<Period> {
        let Self::Compact(layout) = *self else {
            return None;
        };
        let number = at.as_millis().div_euclid(layout.millis());
        Some(Period { layout, number })
    }
}

impl CompactLayout {
    fn shards(&self) -> u64 {
        self.expected.div_ceil(IDS_A_BUCKET).next_power_of_two()
    }

    fn millis(&self) -> i64 {
        i64::try_from(self.rotation.as_millis())
            .unwrap_or(i64::MAX)
            .max(1)
    }

    /// How many rotations `time` takes up.
    fn rotations_in(&self, time: Duration) -> u64 {
        let rotations = time.as_millis().div_ceil(self.rotation.as_millis().max(1));
        u64::try_from(rotations).unwrap_or(u64::MAX)
    }
}

/// One rotation, seen from within: which buckets may hold an id now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    layout: CompactLayout,
    number: i64,
}

impl Period {
    /// Its first millisecond.
    pub(super) fn start(&self) -> i64 {
        self.number.saturating_mul(self.layout.millis())
    }

    /// The first millisecond of the next.
    pub(super) fn end(&self) -> i64 {
        self.start().saturating_add(self.layout.millis())
    }

    /// In how many buckets an id may be now.
    pub(super) fn live(&self) -> u64 {
        self.layout.rotations_in(self.layout.longest) + 1
    }

    /// Which of the live buckets what is to be remembered for `ttl` goes to, from 0.
    ///
    /// # Errors
    /// [`OutboxError::Limit`] for more than the longest time.
    pub(super) fn place_for(&self, ttl: Duration) -> Result<u64> {
        let place = self.layout.rotations_in(ttl);
        if ttl > self.layout.longest {
            return Err(OutboxError::Limit {
                what: "seconds that an id is remembered".to_owned(),
                actual: ttl.as_secs(),
                limit: self.layout.longest.as_secs(),
            });
        }
        Ok(place)
    }

    /// When the live bucket at `place` ends, in milliseconds.
    pub(super) fn end_of(&self, place: u64) -> i64 {
        let place = i64::try_from(place).unwrap_or(i64::MAX);
        let length = self.layout.millis();
        self.end().saturating_add(length.saturating_mul(place))
    }

    /// The key of the live bucket at `place` that `id` belongs to.
    pub(super) fn bucket(&self, keys: &Keys, place: u64, id: MessageId) -> String {
        let [.., a, b, c, d, e, f, g, h] = *id.as_bytes();
        // The end of an id is random, and its beginning is the time.
        let shard = u64::from_be_bytes([a, b, c, d, e, f, g, h]) % self.layout.shards();
        let rotation = self.end_of(place).div_euclid(self.layout.millis());
        keys.part(&format!("done:{rotation}:{shard}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn layout() -> DedupLayout {
        DedupLayout::Compact(CompactLayout {
            longest: MINUTE * 3,
            rotation: MINUTE,
            expected: 1_000,
        })
    }

    fn period_at(millis: i64) -> Period {
        layout().period(Timestamp::from_millis(millis)).unwrap()
    }

    #[test]
    fn an_id_is_remembered_for_its_time_and_up_to_a_rotation_more() {
        for now in [0, 1, 59_999, 60_000, 1_800_000_000_123] {
            let period = period_at(now);
            assert!((period.start()..period.end()).contains(&now));
            for (ttl, rounded) in [(1, 1), (60, 1), (61, 2), (180, 3)] {
                let place = period.place_for(Duration::from_secs(ttl)).unwrap();
                assert!(place < period.live(), "{ttl} s");
                let left = period.end_of(place) - now;
                let most = (rounded + 1) * 60_000;
                assert!(
                    (rounded * 60_000 + 1..=most).contains(&left),
                    "{ttl} s: {left}"
                );
            }
        }
    }

    #[test]
    fn what_ends_in_a_rotation_keeps_its_bucket_as_time_goes_by() {
        let keys = Keys::new("outbox", "test");
        let id = MessageId::from_bytes([9; 16]);
        let bucket = period_at(0).bucket(&keys, 2, id);
        assert_eq!(period_at(60_000).bucket(&keys, 1, id), bucket);
        assert_eq!(period_at(120_000).bucket(&keys, 0, id), bucket);
    }

    #[test]
    fn nothing_is_remembered_for_longer_than_buckets_are_looked_into() {
        let error = period_at(0).place_for(MINUTE * 3 + Duration::from_secs(1));
        assert!(
            matches!(
                error,
                Err(OutboxError::Limit {
                    actual: 181,
                    limit: 180,
                    ..
                })
            ),
            "{error:?}"
        );
    }

    #[test]
    fn a_shape_that_cannot_be_is_told_with_every_problem() {
        let broken = |longest, rotation, expected| {
            let mut error = ConfigError::default();
            let compact = CompactLayout {
                longest,
                rotation,
                expected,
            };
            DedupLayout::Compact(compact).check(&mut error);
            error.problems.len()
        };
        assert_eq!(broken(MINUTE, MINUTE, 1), 0);
        assert_eq!(broken(MINUTE, MINUTE * 2, 0), 2);
        assert_eq!(broken(Duration::ZERO, Duration::ZERO, 1), 1);
        assert_eq!(broken(MINUTE * 65, MINUTE, 1), 1);
    }
}
