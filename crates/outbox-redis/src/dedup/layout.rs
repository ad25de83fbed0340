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
    /// Ids in large sets, some 75 bytes an id: for more than some ten thousand messages a second,
    /// because a batch of ids takes the server a third of the time that it takes in the other
    /// layouts.
    Sets(SetsLayout),
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

/// The shape of a cache in the layout of sets.
///
/// Time is cut into rotations, as in the compact layout: all ids that end in one rotation are the
/// members of one set and go with it, and claims that end in it are the fields of one hash. What a
/// batch does is a handful of commands about all of its ids instead of some for each.
///
/// All who share a cache give it the same shape; another one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetsLayout {
    /// The longest time that an id may be remembered, and a claim held; 14 days by default, at
    /// least `rotation`, at most 64 of them.
    pub longest: Duration,
    /// How coarsely ids are forgotten; 7 days by default, at least 1 s. Each rotation in `longest`
    /// is one more set to look into for every batch.
    pub rotation: Duration,
}

impl Default for SetsLayout {
    fn default() -> Self {
        let CompactLayout {
            longest, rotation, ..
        } = CompactLayout::default();
        Self { longest, rotation }
    }
}

impl DedupLayout {
    /// What is to be the same for all who share a cache, in words.
    pub(super) fn shape(&self) -> String {
        match self {
            Self::Plain => "plain".to_owned(),
            Self::Sets(sets) => format!(
                "sets: {} ms in rotations of {} ms",
                sets.longest.as_millis(),
                sets.rotation.as_millis()
            ),
            Self::Compact(compact) => format!(
                "compact: {} ms in rotations of {} ms over {} buckets",
                compact.longest.as_millis(),
                compact.rotation.as_millis(),
                compact.shards()
            ),
        }
    }

    pub(super) fn check(&self, error: &mut ConfigError) {
        if let Some(rotations) = self.rotations() {
            rotations.check(error);
        }
        if let Self::Compact(compact) = self
            && !(1..=1_000_000_000_000).contains(&compact.expected)
        {
            error.add("expected", "is not from 1 to 10^12");
        }
    }

    fn rotations(&self) -> Option<Rotations> {
        let (longest, rotation) = match *self {
            Self::Plain => return None,
            Self::Compact(compact) => (compact.longest, compact.rotation),
            Self::Sets(sets) => (sets.longest, sets.rotation),
        };
        Some(Rotations { longest, rotation })
    }

    /// What is found where at the moment `at`.
    pub(super) fn places(&self, at: Timestamp) -> Places {
        let period = self.rotations().map(|rotations| rotations.period(at));
        match (self, period) {
            (Self::Compact(compact), Some(period)) => Places::Buckets(period, compact.shards()),
            (Self::Sets(_), Some(period)) => Places::Sets(period),
            _ => Places::Own,
        }
    }
}

/// Where ids are at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Places {
    /// Each has a key of its own.
    Own,
    /// Claimed ones have keys of their own; done ones lie in that many buckets a rotation.
    Buckets(Period, u64),
    /// All lie in a set and a hash a rotation.
    Sets(Period),
}

impl Places {
    pub(super) fn period(&self) -> Option<Period> {
        match self {
            Self::Own => None,
            Self::Buckets(period, _) | Self::Sets(period) => Some(*period),
        }
    }
}

impl CompactLayout {
    fn shards(&self) -> u64 {
        self.expected.div_ceil(IDS_A_BUCKET).next_power_of_two()
    }
}

/// How time is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rotations {
    longest: Duration,
    rotation: Duration,
}

impl Rotations {
    fn check(&self, error: &mut ConfigError) {
        if self.rotation < Duration::from_secs(1) {
            error.add("rotation", "is shorter than 1 s");
        }
        if self.longest < self.rotation {
            error.add("longest", "is shorter than `rotation`");
        } else if self.count_in(self.longest) > MOST_ROTATIONS {
            let problem = format!("is more than {MOST_ROTATIONS} times `rotation`");
            error.add("longest", problem);
        }
    }

    fn millis(&self) -> i64 {
        i64::try_from(self.rotation.as_millis())
            .unwrap_or(i64::MAX)
            .max(1)
    }

    /// How many rotations `time` takes up.
    fn count_in(&self, time: Duration) -> u64 {
        let rotations = time.as_millis().div_ceil(self.rotation.as_millis().max(1));
        u64::try_from(rotations).unwrap_or(u64::MAX)
    }

    /// The rotation that holds `at`.
    fn period(self, at: Timestamp) -> Period {
        Period {
            rotations: self,
            number: at.as_millis().div_euclid(self.millis()),
        }
    }
}

/// One rotation, seen from within: which buckets may hold an id now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    rotations: Rotations,
    number: i64,
}

impl Period {
    /// Its first millisecond.
    pub(super) fn start(&self) -> i64 {
        self.number.saturating_mul(self.rotations.millis())
    }

    /// The first millisecond of the next.
    pub(super) fn end(&self) -> i64 {
        self.start().saturating_add(self.rotations.millis())
    }

    /// In how many buckets an id may be now.
    pub(super) fn live(&self) -> u64 {
        self.rotations.count_in(self.rotations.longest) + 1
    }

    /// Which of the live buckets what is to be remembered for `ttl` goes to, from 0.
    ///
    /// # Errors
    /// [`OutboxError::Limit`] for more than the longest time.
    pub(super) fn place_for(&self, ttl: Duration) -> Result<u64> {
        let place = self.rotations.count_in(ttl);
        if ttl > self.rotations.longest {
            return Err(OutboxError::Limit {
                what: "seconds that an id is remembered or claimed".to_owned(),
                actual: ttl.as_secs(),
                limit: self.rotations.longest.as_secs(),
            });
        }
        Ok(place)
    }

    /// When the live bucket at `place` ends, in milliseconds.
    pub(super) fn end_of(&self, place: u64) -> i64 {
        let place = i64::try_from(place).unwrap_or(i64::MAX);
        let length = self.rotations.millis();
        self.end().saturating_add(length.saturating_mul(place))
    }

    /// The rotation that the live place `place` is about.
    fn at(&self, place: u64) -> i64 {
        let place = i64::try_from(place).unwrap_or(i64::MAX);
        self.number.saturating_add(place)
    }

    /// The key of the live bucket at `place` that `id` belongs to, one of `shards`.
    pub(super) fn bucket(&self, keys: &Keys, place: u64, (id, shards): (MessageId, u64)) -> String {
        let [.., a, b, c, d, e, f, g, h] = *id.as_bytes();
        // The end of an id is random, and its beginning is the time.
        let shard = u64::from_be_bytes([a, b, c, d, e, f, g, h]) % shards;
        keys.part(&format!("done:{}:{shard}", self.at(place) + 1))
    }

    /// The keys of all live sets of done ids, of the hashes of claims that end as they do, and of
    /// the set and the hash that ended last.
    pub(super) fn sets<'k>(&self, keys: &'k Keys) -> impl Iterator<Item = String> + 'k {
        let (this, live) = (*self, self.live());
        let every = move |what| (0..live).map(move |place| (what, this.at(place)));
        let sets = every("done").chain(every("claims"));
        let over = self.number.saturating_sub(1);
        sets.chain([("done", over), ("claims", over)])
            .map(|(what, rotation)| keys.part(&format!("{what}:{rotation}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn period_at(millis: i64) -> Period {
        let rotations = Rotations {
            longest: MINUTE * 3,
            rotation: MINUTE,
        };
        rotations.period(Timestamp::from_millis(millis))
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
        let bucket = |at, place| period_at(at).bucket(&keys, place, (id, 8));
        assert_eq!(bucket(60_000, 1), bucket(0, 2));
        assert_eq!(bucket(120_000, 0), bucket(0, 2));
    }

    #[test]
    fn what_ends_in_a_rotation_keeps_its_set_until_it_is_over() {
        let keys = Keys::new("outbox", "test");
        let sets = |at| period_at(at).sets(&keys).collect::<Vec<_>>();
        let (now, later) = (sets(0), sets(60_000));
        assert_eq!(
            now[..4],
            ["0", "1", "2", "3"].map(|n| keys.part(&format!("done:{n}")))
        );
        assert_eq!(
            now[4..8],
            ["0", "1", "2", "3"].map(|n| keys.part(&format!("claims:{n}")))
        );
        assert_eq!((&later[..3], &later[8]), (&now[1..4], &now[0]));
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
