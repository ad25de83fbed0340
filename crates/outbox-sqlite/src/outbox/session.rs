//! What the holder of the lease keeps in mind: how far it has read, and what it handed out.
//!
//! Nothing of this is stored, and nothing has to be: a new lease starts with an empty mind and meets
//! every ready row again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use outbox_core::id::WorkerId;
use outbox_core::time::Timestamp;

use super::share::Share;

/// An ordering key, shared by the rows that have it.
pub(super) type Key = Arc<str>;

/// The mind of one holder, for one epoch.
///
/// Every ready row is above `high` and still to be met, or in `again`, or in `claimed`: so a claim
/// never reads a row that is handed out already, however many are; but for those that were handed
/// out as fresh ones beside a backlog, which `share` remembers: where one comes back, it is in `again`
/// as if it had been met, and passed over once more when all before it were.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) owner: WorkerId,
    pub(super) epoch: i64,
    /// When the lease ends, as it was stored last.
    pub(super) expires_at: Timestamp,
    /// Whether rows may be parked; they only come to be by claims of this session.
    pub(super) parked: bool,
    /// Whether the last claim that looked found nothing but ready rows.
    pub(super) calm: bool,
    /// Whether a settlement failed, so that rows which count as handed out may be settled already.
    pub(super) uncertain: bool,
    /// All rows up to here were met.
    high: i64,
    /// Rows that were met and are ready and not handed out, with their keys.
    again: BTreeMap<i64, Option<Key>>,
    /// The rows in `again`, by key.
    again_by_key: HashMap<Key, BTreeSet<i64>>,
    /// Rows that were handed out and not settled.
    claimed: HashMap<i64, Claimed, BuildHasherDefault<SequenceHasher>>,
    /// The keys that are being blocked by that, as often as they are.
    blocking: Vec<Key>,
    /// Keys that a settlement blocked since the claim that is under way began.
    blocked_meanwhile: HashSet<Key>,
    pub(super) share: Share,
}

impl Session {
    pub(super) fn new(owner: WorkerId, epoch: i64, expires_at: Timestamp) -> Self {
        Self {
            owner,
            epoch,
            expires_at,
            parked: true,
            calm: false,
            uncertain: false,
            high: 0,
            share: Share::default(),
            again: BTreeMap::new(),
            again_by_key: HashMap::new(),
            claimed: HashMap::default(),
            blocking: Vec::new(),
            blocked_meanwhile: HashSet::new(),
        }
    }

    /// All rows up to here were met.
    pub(super) fn high(&self) -> i64 {
        self.high
    }

    /// How many rows that were met are ready and not handed out.
    pub(super) fn again_count(&self) -> usize {
        self.again.len()
    }

    /// The first `max` of them behind `seq`.
    pub(super) fn again_behind(&self, seq: i64, max: usize) -> Vec<i64> {
        let behind = self.again.range(seq.saturating_add(1)..);
        behind.take(max).map(|(seq, _)| *seq).collect()
    }

    /// Notes that a claim begins to look; `parked` says whether rows may be parked now.
    pub(super) fn begin_claim(&mut self, parked: bool) {
        self.parked = parked;
        self.blocked_meanwhile.clear();
        self.share.passed(self.high);
    }

    /// Whether a row may be handed out as far as the mind knows: no earlier ready row of its key is
    /// left behind, and no settlement blocks the key while the claim looks.
    pub(super) fn is_in_order(&self, seq: i64, key: Option<&str>) -> bool {
        let Some(key) = key else { return true };
        let first = self.again_by_key.get(key).and_then(BTreeSet::first);
        first.is_none_or(|first| *first >= seq)
            && !self.blocked_meanwhile.contains(key)
            && !self.blocking.iter().any(|blocked| **blocked == *key)
    }

    /// Notes that all rows up to `seq` were met.
    pub(super) fn met(&mut self, seq: i64) {
        self.high = self.high.max(seq);
    }

    /// Where it is the turn of fresh rows beside a backlog: those behind which row.
    pub(super) fn take_turn(&mut self) -> Option<i64> {
        self.share.passed(self.high);
        self.share.take_turn()
    }

    /// Notes whether a claim in order may have left rows behind. Where it has not, there is no
    /// backlog, and fresh rows that were looked at beside one are met, too.
    pub(super) fn looked_in_order(&mut self, more: bool) {
        self.share.claimed(more);
        if !more {
            self.high = self.high.max(self.share.end());
        }
    }

    /// Notes that a row is ready and not handed out; one above [`Session::high`] that was not handed
    /// out as a fresh one is met in its turn.
    pub(super) fn ready_again(&mut self, seq: i64, key: Option<Key>) {
        if seq > self.high && !self.share.has(seq) {
            return;
        }
        self.left(seq);
        if let Some(key) = &key {
            let rows = self.again_by_key.entry(Arc::clone(key)).or_default();
            rows.insert(seq);
        }
        self.again.insert(seq, key);
    }

    /// Notes that a row that was met is not ready any more.
    pub(super) fn left(&mut self, seq: i64) {
        let Some(Some(key)) = self.again.remove(&seq) else {
            return;
        };
        if let Some(rows) = self.again_by_key.get_mut(&key) {
            rows.remove(&seq);
            if rows.is_empty() {
                self.again_by_key.remove(&key);
            }
        }
    }

    /// Notes that a row is handed out.
    pub(super) fn hand_out(&mut self, seq: i64, key: Option<Key>) {
        self.left(seq);
        let settling = false;
        self.claimed.insert(seq, Claimed { key, settling });
    }

    /// Whether a row is handed out.
    pub(super) fn holds(&self, seq: i64) -> bool {
        self.claimed.contains_key(&seq)
    }

    /// Begins to settle a row that is handed out; `blocks` says whether it is to block its key.
    /// Answers whether it is handed out, and not being settled already.
    pub(super) fn begin_to_settle(&mut self, seq: i64, blocks: bool) -> bool {
        let Some(row) = self.claimed.get_mut(&seq).filter(|row| !row.settling) else {
            return false;
        };
        row.settling = true;
        if blocks {
            self.blocking.extend(row.key.clone());
        }
        true
    }

    /// Notes that a row is settled; `blocks` as when that began.
    pub(super) fn settled(&mut self, seq: i64, blocks: bool) {
        let key = self.claimed.remove(&seq).and_then(|row| row.key);
        if let (Some(key), true) = (key, blocks) {
            self.unblock(&key);
            self.blocked_meanwhile.insert(key);
        }
    }

    /// Notes that a row was not tried, or never told to the claimer: it is ready again.
    pub(super) fn released(&mut self, seq: i64) {
        if let Some(row) = self.claimed.remove(&seq) {
            self.ready_again(seq, row.key);
        }
    }

    /// Notes that nobody knows whether a row is settled: it counts as handed out.
    pub(super) fn unsettled(&mut self, seq: i64, blocks: bool) {
        self.uncertain = true;
        let Some(row) = self.claimed.get_mut(&seq) else {
            return;
        };
        row.settling = false;
        if let (Some(key), true) = (row.key.clone(), blocks) {
            self.unblock(&key);
        }
    }

    fn unblock(&mut self, key: &str) {
        if let Some(place) = self.blocking.iter().position(|blocked| **blocked == *key) {
            self.blocking.swap_remove(place);
        }
    }
}

/// A row that was handed out.
#[derive(Debug)]
struct Claimed {
    key: Option<Key>,
    /// Whether a settlement of it is under way.
    settling: bool,
}

/// Sequences are dense and nobody chooses them: one multiplication spreads them well enough.
#[derive(Default)]
struct SequenceHasher(u64);

impl Hasher for SequenceHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new(WorkerId::from_bytes([1; 16]), 1, Timestamp::EPOCH)
    }

    fn key(text: &str) -> Option<Key> {
        Some(text.into())
    }

    #[test]
    fn a_released_row_comes_again_in_its_old_place() {
        let mut session = session();
        session.met(9);
        for seq in [3, 5, 9] {
            session.hand_out(seq, None);
        }
        for seq in [9, 3] {
            assert!(session.begin_to_settle(seq, false));
            session.released(seq);
        }
        assert_eq!(session.again_behind(0, 10), [3, 9]);
        assert_eq!(session.again_behind(3, 10), [9]);
        session.hand_out(3, None);
        assert_eq!(session.again_behind(0, 10), [9]);
        assert!(session.holds(3) && session.holds(5) && !session.holds(9));
    }

    #[test]
    fn a_row_does_not_overtake_an_earlier_one_of_its_key() {
        let mut session = session();
        session.met(9);
        session.ready_again(4, key("k"));
        assert!(!session.is_in_order(9, Some("k")));
        assert!(session.is_in_order(4, Some("k")));
        assert!(session.is_in_order(9, Some("other")) && session.is_in_order(9, None));
        session.hand_out(4, key("k"));
        assert!(session.is_in_order(9, Some("k")));
    }

    #[test]
    fn a_row_whose_key_was_forgotten_holds_nothing_up() {
        let mut session = session();
        session.met(9);
        session.ready_again(4, key("k"));
        session.ready_again(4, None);
        assert!(session.is_in_order(9, Some("k")));
    }

    #[test]
    fn a_key_that_is_blocked_while_a_claim_looks_is_out_of_order() {
        let mut session = session();
        session.met(4);
        session.hand_out(4, key("k"));
        assert!(session.begin_to_settle(4, true));
        session.begin_claim(false);
        assert!(
            !session.is_in_order(9, Some("k")),
            "the settlement is under way"
        );
        session.settled(4, true);
        assert!(
            !session.is_in_order(9, Some("k")),
            "the claim began before it ended"
        );
        session.begin_claim(false);
        assert!(
            session.is_in_order(9, Some("k")),
            "from here on the table knows"
        );
    }

    #[test]
    fn a_row_that_was_not_met_yet_is_met_in_its_turn() {
        let mut session = session();
        session.met(4);
        session.ready_again(5, key("k"));
        assert_eq!(session.again_count(), 0);
        session.released(4);
        assert_eq!(session.again_count(), 0, "it was not handed out");
    }

    #[test]
    fn a_fresh_row_that_comes_back_waits_for_none_before_it() {
        let mut session = session();
        session.met(4);
        session.hand_out(9, None);
        session.share.looked(9, [9].into_iter());
        session.released(9);
        assert_eq!((session.again_behind(0, 10), session.high()), (vec![9], 4));
    }

    #[test]
    fn a_row_is_settled_by_one_settlement_at_a_time() {
        let mut session = session();
        session.met(4);
        session.hand_out(4, None);
        assert!(session.begin_to_settle(4, false));
        assert!(!session.begin_to_settle(4, false));
        session.unsettled(4, false);
        assert!(session.uncertain && session.begin_to_settle(4, false));
        session.settled(4, false);
        assert!(!session.begin_to_settle(4, false));
    }
}
