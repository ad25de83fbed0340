use super::state::{Lease, Row, State, Walk};
use crate::delivery::{Leased, Quarantined, Unreadable};
use crate::id::WorkerId;
use crate::lease::{Epoch, LeaseToken, Sequence};
use crate::ports::ClaimRequest;
use crate::report::ClaimReport;
use crate::status::MessageStatus;
use crate::time::Timestamp;

/// What a claim would take.
#[derive(Default)]
struct Found {
    readable: Vec<Sequence>,
    unreadable: Vec<Sequence>,
    next_due: Option<Timestamp>,
    more: bool,
}

impl State {
    pub(super) fn claim(&mut self, request: &ClaimRequest) -> ClaimReport {
        let live = self.lease.is_live(request.now);
        if live && self.lease.owner != Some(request.owner) {
            return ClaimReport {
                next_due: Some(self.lease.expires_at),
                ..ClaimReport::default()
            };
        }
        let found = self.find(request, live);
        // An idle relay takes no lease, so that idling changes nothing.
        if !live && !found.readable.is_empty() {
            self.lease = Lease {
                owner: Some(request.owner),
                epoch: Epoch(self.lease.epoch.0 + 1),
                expires_at: request.now + request.lease,
            };
        }
        ClaimReport {
            leased: found
                .readable
                .iter()
                .filter_map(|s| self.hand_out(*s))
                .collect(),
            unreadable: self.set_aside(&found.unreadable, request.now),
            next_due: found.next_due,
            more: found.more,
        }
    }

    fn find(&self, request: &ClaimRequest, live: bool) -> Found {
        let mut found = Found::default();
        let mut walk = Walk::new(self, request.now, &request.paused_topics);
        for (sequence, row) in &self.rows {
            if live && self.is_in_flight(row) {
                continue;
            }
            match walk.standing(row) {
                MessageStatus::Ready if row.unreadable => found.unreadable.push(*sequence),
                MessageStatus::Ready if found.readable.len() >= request.max => {
                    found.more = true;
                    break;
                }
                MessageStatus::Ready => found.readable.push(*sequence),
                MessageStatus::Waiting if !walk.is_paused(row) => {
                    found.next_due = earliest(found.next_due, row.waits_until);
                }
                _ => {}
            }
        }
        found
    }

    fn hand_out(&mut self, sequence: Sequence) -> Option<Leased> {
        let epoch = self.lease.epoch;
        let row = self.rows.get_mut(&sequence)?;
        row.claimed = Some(epoch);
        let mut message = row.message.clone();
        message.epoch = epoch;
        Some(Leased {
            message,
            token: LeaseToken { sequence, epoch },
            attempt: row.failures + 1,
            history: row.history.clone(),
        })
    }

    fn set_aside(&mut self, sequences: &[Sequence], now: Timestamp) -> Vec<Unreadable> {
        let rows: Vec<Row> = sequences
            .iter()
            .filter_map(|s| self.rows.remove(s))
            .collect();
        rows.into_iter()
            .map(|row| {
                self.ids.remove(&row.message.id);
                let unreadable = Unreadable {
                    place: place(row.message.sequence),
                    problem: "damaged on purpose".to_owned(),
                };
                self.quarantined.push(unread(row, &unreadable, now));
                unreadable
            })
            .collect()
    }

    /// Ends the lease where `owner` has it; whether it did.
    pub(super) fn release(&mut self, owner: WorkerId) -> bool {
        if self.lease.owner != Some(owner) {
            return false;
        }
        self.lease.owner = None;
        for row in self.rows.values_mut() {
            row.claimed = None;
        }
        true
    }
}

/// The name of a row in reports.
pub(super) fn place(sequence: Sequence) -> String {
    format!("row {sequence}")
}

fn unread(row: Row, found: &Unreadable, now: Timestamp) -> Quarantined {
    Quarantined {
        place: found.place.clone(),
        message: None,
        attempts: row.failures,
        history: row.history,
        first_failed_at: row.first_failed_at.unwrap_or(now),
        last_failed_at: now,
        kind: "unreadable".to_owned(),
        error: found.problem.clone(),
        redrives: row.redrives,
    }
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}
