//! What a scene counts and moves.

use outbox_core::error::BoxError;
use outbox_core::id::MessageId;
use outbox_core::time::Timestamp;

use super::given::START;
use super::scene::Scene;
use crate::{DlqEntry, Failure, Move, Subject};

impl Scene {
    /// A message's subject on this side.
    pub(super) fn subject(&self, id: MessageId) -> Subject {
        Subject {
            origin: self.origin.clone(),
            id,
        }
    }

    /// Counts a failure of each of `ids`, at `now`.
    pub(super) async fn count(&self, ids: &[MessageId], now: Timestamp) -> Result<(), BoxError> {
        let failures: Vec<_> = ids.iter().map(|id| self.failure(*id, now)).collect();
        Ok(self.heap.record_failures(&failures).await?)
    }

    /// A failure at `at`.
    pub(super) fn failure(&self, id: MessageId, at: Timestamp) -> Failure {
        Failure {
            subject: self.subject(id),
            at,
            kind: "failed".to_owned(),
            error: "no luck".to_owned(),
        }
    }

    /// What a heap may have drained of `id`.
    pub(super) fn entry(&self, id: MessageId) -> DlqEntry {
        DlqEntry {
            subject: self.subject(id),
            failures: 5,
            first_failed_at: START,
            last_failed_at: START,
            kind: "failed".to_owned(),
            error: "no luck".to_owned(),
            claim: 1,
        }
    }

    /// Moves `ids` into quarantine at `now`.
    pub(super) async fn quarantine(
        &self,
        ids: &[MessageId],
        now: Timestamp,
    ) -> Result<Vec<Move>, BoxError> {
        let entries: Vec<_> = ids.iter().map(|id| self.entry(*id)).collect();
        Ok(self.quarantine.quarantine(&entries, now).await?)
    }
}
