use std::sync::Arc;
use std::time::Duration;

use super::scene::{failure, owner};
use crate::delivery::Leased;
use crate::error::{BoxError, Result};
use crate::id::WorkerId;
use crate::ports::{ClaimRequest, Outbox, Outcome, Settlement};
use crate::report::{ClaimReport, SettleReport};
use crate::status::OnFailure;
use crate::testing::kit::CaseResult;
use crate::time::Timestamp;

/// How long every lease lasts.
pub(super) const LEASE: Duration = Duration::from_secs(30);

/// How often a claim may say "more" in a row before the case gives up on it.
const ROUNDS: usize = 10_000;

/// One incarnation of a relay, which has a handle on an outbox.
pub(super) struct Relay {
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) owner: WorkerId,
    /// Topics whose destination takes nothing now.
    pub(super) paused: Vec<String>,
}

impl Relay {
    pub(super) fn new(number: u8, outbox: &Arc<dyn Outbox>) -> Self {
        Self {
            outbox: Arc::clone(outbox),
            owner: owner(number),
            paused: Vec::new(),
        }
    }

    /// One claim.
    pub(super) async fn claim(&self, max: usize, now: Timestamp) -> Result<ClaimReport> {
        let request = ClaimRequest {
            owner: self.owner,
            max,
            lease: LEASE,
            now,
            paused_topics: self.paused.clone(),
        };
        self.outbox.claim(&request).await
    }

    /// As [`Self::take_in_order`], sorted by place: for cases that are not about order.
    pub(super) async fn take(&self, max: usize, now: Timestamp) -> Result<Vec<Leased>, BoxError> {
        let mut taken = self.take_in_order(max, now).await?;
        taken.sort_by_key(|leased| leased.token.sequence);
        Ok(taken)
    }

    /// Claims until there are `max` messages or there is no more to claim.
    pub(super) async fn take_in_order(
        &self,
        max: usize,
        now: Timestamp,
    ) -> Result<Vec<Leased>, BoxError> {
        let mut taken = Vec::new();
        for _ in 0..ROUNDS {
            let report = self.claim(max - taken.len(), now).await?;
            taken.extend(report.leased);
            if taken.len() >= max || !report.more {
                return Ok(taken);
            }
        }
        Err("claims promise more for ever".into())
    }

    /// Settles all of `leased` in the same way.
    pub(super) async fn settle(
        &self,
        leased: &[Leased],
        outcome: &Outcome,
        now: Timestamp,
    ) -> Result<SettleReport> {
        self.outbox.settle(&settlements(leased, outcome), now).await
    }

    /// Settles all of `leased`, which must not be lost, in the same way.
    pub(super) async fn settle_held(
        &self,
        leased: &[Leased],
        outcome: &Outcome,
        now: Timestamp,
    ) -> CaseResult {
        let report = self.settle(leased, outcome, now).await?;
        assert_eq!(report.lost, [0_usize; 0], "held messages were told as lost");
        assert_eq!(report.settled, leased.len() as u64);
        Ok(())
    }

    /// Settles all of `leased` as published.
    pub(super) async fn publish(&self, leased: &[Leased], now: Timestamp) -> CaseResult {
        self.settle_held(leased, &Outcome::Published, now).await
    }

    /// Settles `leased` as failed, to be tried again at `due_at`.
    pub(super) async fn fail(
        &self,
        leased: &Leased,
        due_at: Timestamp,
        on_failure: OnFailure,
        now: Timestamp,
    ) -> CaseResult {
        let outcome = Outcome::Retry {
            due_at,
            failure: failure(now, "no route"),
            on_failure,
        };
        self.settle_held(std::slice::from_ref(leased), &outcome, now)
            .await
    }

    /// Settles `leased` as failed for the last time.
    pub(super) async fn quarantine(
        &self,
        leased: &Leased,
        on_failure: OnFailure,
        now: Timestamp,
    ) -> CaseResult {
        let outcome = Outcome::Quarantine {
            failure: failure(now, "refused"),
            on_failure,
        };
        self.settle_held(std::slice::from_ref(leased), &outcome, now)
            .await
    }

    /// As [`Self::drain_in_order`], sorted by text: for cases that are not about order.
    pub(super) async fn drain(&self, max: usize, now: Timestamp) -> Result<Vec<String>, BoxError> {
        let mut published = self.drain_in_order(max, now).await?;
        published.sort();
        Ok(published)
    }

    /// Publishes all that can be claimed at `now`, in batches of `max`; the texts in order.
    pub(super) async fn drain_in_order(
        &self,
        max: usize,
        now: Timestamp,
    ) -> Result<Vec<String>, BoxError> {
        let mut published = Vec::new();
        for _ in 0..ROUNDS {
            let taken = self.take_in_order(max, now).await?;
            if taken.is_empty() {
                return Ok(published);
            }
            self.publish(&taken, now).await?;
            published.extend(texts(&taken));
        }
        Err("there is always more to publish".into())
    }
}

/// The payloads of `leased` as texts.
pub(super) fn texts(leased: &[Leased]) -> Vec<String> {
    let text = |leased: &Leased| String::from_utf8_lossy(&leased.message.payload).into_owned();
    leased.iter().map(text).collect()
}

/// The same outcome for all of `leased`.
pub(super) fn settlements(leased: &[Leased], outcome: &Outcome) -> Vec<Settlement> {
    leased
        .iter()
        .map(|leased| Settlement {
            token: leased.token,
            outcome: outcome.clone(),
        })
        .collect()
}
