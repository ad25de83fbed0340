use super::claim::place;
use super::state::{Kept, Row, State};
use crate::delivery::Quarantined;
use crate::lease::{LeaseToken, Sequence};
use crate::ports::{Outcome, Settlement};
use crate::report::SettleReport;
use crate::status::{AttemptRecord, OnFailure};
use crate::time::Timestamp;

impl State {
    pub(super) fn settle(
        &mut self,
        settlements: &[Settlement],
        now: Timestamp,
        keep_published: bool,
    ) -> SettleReport {
        let mut report = SettleReport::default();
        for (index, settlement) in settlements.iter().enumerate() {
            if self.is_held(settlement.token) {
                self.apply(settlement, now, keep_published);
                report.settled += 1;
            } else {
                report.lost.push(index);
            }
        }
        report
    }

    /// Whether what `token` proves is still so: claimed under the present lease and not settled. A
    /// lease that has ended but that nobody took is still its holder's.
    pub(super) fn is_held(&self, token: LeaseToken) -> bool {
        let row = self.rows.get(&token.sequence);
        token.epoch == self.lease.epoch && row.is_some_and(|row| self.is_in_flight(row))
    }

    fn apply(&mut self, settlement: &Settlement, now: Timestamp, keep_published: bool) {
        let sequence = settlement.token.sequence;
        match settlement.outcome.clone() {
            Outcome::Published => self.publish(sequence, now, keep_published),
            Outcome::Retry {
                due_at,
                failure,
                on_failure,
            } => self.put_back(sequence, |row| {
                row.fail(failure);
                row.waits_until = Some(due_at);
                row.blocks_key = on_failure != OnFailure::SkipMessage;
            }),
            Outcome::Quarantine {
                failure,
                on_failure,
            } => self.quarantine(sequence, failure, on_failure),
            Outcome::Release => self.put_back(sequence, |row| row.waits_until = None),
            Outcome::Hold { until } => self.put_back(sequence, |row| row.waits_until = Some(until)),
        }
    }

    fn put_back(&mut self, sequence: Sequence, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.rows.get_mut(&sequence) {
            row.claimed = None;
            change(row);
        }
    }

    fn publish(&mut self, sequence: Sequence, now: Timestamp, keep_published: bool) {
        let Some(row) = self.rows.remove(&sequence) else {
            return;
        };
        if keep_published {
            let kept = Kept {
                message: row.message,
                settled_at: now,
            };
            self.published.insert(sequence, kept);
        } else {
            self.ids.remove(&row.message.id);
        }
    }

    fn quarantine(&mut self, sequence: Sequence, failure: AttemptRecord, on_failure: OnFailure) {
        let Some(mut row) = self.rows.remove(&sequence) else {
            return;
        };
        row.fail(failure.clone());
        self.ids.remove(&row.message.id);
        if let (OnFailure::ParkKey, Some(key)) = (on_failure, &row.message.ordering_key) {
            self.parked_keys.insert(key.clone());
        }
        row.message.epoch = self.lease.epoch;
        self.quarantined.push(Quarantined {
            place: place(sequence),
            message: Some(row.message),
            attempts: row.failures,
            history: row.history,
            first_failed_at: row.first_failed_at.unwrap_or(failure.at),
            last_failed_at: failure.at,
            kind: failure.kind,
            error: failure.error,
            redrives: row.redrives,
        });
    }
}

impl Row {
    fn fail(&mut self, failure: AttemptRecord) {
        self.failures += 1;
        self.first_failed_at.get_or_insert(failure.at);
        failure.push_to(&mut self.history);
    }
}
