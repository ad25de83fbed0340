use super::state::{Kept, State};
use crate::lease::Sequence;
use crate::report::OutboxStats;
use crate::status::MessageStatus;
use crate::time::Timestamp;

impl State {
    pub(super) fn purge(&mut self, before: Timestamp, max: usize) -> u64 {
        let old = |(_, kept): &(&Sequence, &Kept)| kept.settled_at < before;
        let going: Vec<Sequence> = self
            .published
            .iter()
            .filter(old)
            .take(max)
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in &going {
            if let Some(kept) = self.published.remove(sequence) {
                self.ids.remove(&kept.message.id);
            }
        }
        self.forget_keys(before, max);
        going.len() as u64
    }

    fn forget_keys(&mut self, before: Timestamp, max: usize) {
        let mut left = max;
        self.keys.retain(|_, (_, since)| {
            let goes = *since < before && left > 0;
            left -= usize::from(goes);
            !goes
        });
    }

    pub(super) fn stats(&self, now: Timestamp) -> OutboxStats {
        let mut stats = OutboxStats {
            quarantined: self.quarantined.len() as u64,
            oldest: self.rows.values().map(|row| row.message.created_at).min(),
            ..OutboxStats::default()
        };
        for (_, status) in self.statuses(now) {
            match status {
                MessageStatus::Ready => stats.ready += 1,
                MessageStatus::Waiting => stats.waiting += 1,
                MessageStatus::Parked => stats.parked += 1,
                MessageStatus::Published => stats.published += 1,
                MessageStatus::Quarantined => {}
            }
        }
        stats
    }
}
