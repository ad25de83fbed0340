//! When a relay's run is over, and what it leaves.

use crate::error::Result;
use crate::id::WorkerId;
use crate::time::Timestamp;

use super::super::Relay;
use super::{Engine, Goal};

impl Engine<'_> {
    pub(super) fn is_finished(&self, now: Timestamp) -> bool {
        if let Some(since) = self.stopping {
            return self.is_quiet() || now >= since + self.relay.config.grace;
        }
        self.goal == Goal::Empty && self.is_drained(now)
    }

    /// Whether a flush is done: with everything sent, or with its patience.
    pub(super) fn is_drained(&self, now: Timestamp) -> bool {
        let gave_up = now >= self.drain.moved_at + self.relay.config.flush_patience;
        gave_up || (self.is_quiet() && self.drain.counted && self.drain.unsent == Some(0))
    }

    /// Whether nothing is claimed, on its way, or to be told.
    pub(super) fn is_quiet(&self) -> bool {
        self.unsettled.is_empty()
            && !self.claim.running
            && !self.busy.settling
            && self.judged.settlements.is_empty()
            && self.desk.is_idle()
    }

    /// How many messages a flush has left; counted anew where something has happened since.
    pub(super) async fn count_unsent(&mut self) -> Result<u64> {
        if let Some(error) = self.drain.error.take() {
            return Err(error);
        }
        match self.drain.unsent {
            Some(unsent) if self.drain.counted => Ok(unsent),
            _ => {
                let stats = self.relay.outbox.stats(self.relay.clock.now()).await?;
                Ok(stats.unsent())
            }
        }
    }
}

/// Gives the lease back, so that nobody has to wait for its end.
pub(super) async fn give_back_lease(relay: &Relay, owner: WorkerId) {
    let release = relay.outbox.release(owner);
    match tokio::time::timeout(relay.config.lease, release).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "lease not given back: it ends by itself"),
        Err(_) => tracing::warn!("lease not given back in time: it ends by itself"),
    }
}
