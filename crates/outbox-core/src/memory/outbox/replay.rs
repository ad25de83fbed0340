use async_trait::async_trait;

use super::port::MemoryOutbox;
use super::state::{Kept, Lease, Row, State};
use crate::error::Result;
use crate::lease::{Epoch, Sequence};
use crate::ports::{Replay, ReplayFrom, ReplayRequest};
use crate::report::ReplayReport;

#[async_trait]
impl Replay for MemoryOutbox {
    async fn replay(&self, request: &ReplayRequest) -> Result<ReplayReport> {
        let report = self.state().replay(request);
        self.wake_if(report.replayed > 0);
        Ok(report)
    }
}

impl State {
    fn replay(&mut self, request: &ReplayRequest) -> ReplayReport {
        let kept = std::mem::take(&mut self.published);
        let (again, kept) = kept
            .into_iter()
            .partition(|(sequence, kept)| is_wanted(request, *sequence, kept));
        self.published = kept;
        let again: std::collections::BTreeMap<Sequence, Kept> = again;
        if again.is_empty() {
            return ReplayReport {
                replayed: 0,
                epoch: self.lease.epoch,
            };
        }
        // Whoever holds the lease has passed these places: it begins anew.
        self.lease = Lease {
            epoch: Epoch(self.lease.epoch.0 + 1),
            ..Lease::default()
        };
        let replayed = again.len() as u64;
        for (sequence, kept) in again {
            self.rows.insert(sequence, Row::untried(kept.message, None));
        }
        ReplayReport {
            replayed,
            epoch: self.lease.epoch,
        }
    }
}

fn is_wanted(request: &ReplayRequest, sequence: Sequence, kept: &Kept) -> bool {
    let late_enough = match request.from {
        ReplayFrom::Sequence(first) => sequence >= first,
        ReplayFrom::PublishedAt(moment) => kept.settled_at >= moment,
    };
    let topics = &request.topics;
    late_enough && (topics.is_empty() || topics.contains(&kept.message.topic))
}
