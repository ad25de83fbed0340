use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::delivery::Delivery;
use crate::error::{HandlerError, OutboxError, Result, error_text};
use crate::id::{Entropy, MessageId};
use crate::policy::{Breaker, Permission};
use crate::ports::{
    Claim, ClaimToken, DeduplicationCache, DeliveryOutcome, Handled, Handler, RateDecision,
    RateLimiter,
};
use crate::report::Fate;
use crate::status::{AttemptRecord, ERROR_TEXT_BYTES};
use crate::time::Timestamp;

use super::decided::{Admission, Admitted, Decided, Ended, Ending};
use super::{ConsumerConfig, Semantics};

/// The user's handler with its resilience layers: rate limit, deduplication, breaker, timeout and
/// retries.
///
/// ```
/// use outbox_core::consume::{Consumer, ConsumerConfig};
/// use outbox_core::{HandlerError, delivery::Delivery};
///
/// let consumer = Consumer::new(
///     |delivery: Delivery| async move {
///         let _bytes = &delivery.message.payload;
///         Ok::<(), HandlerError>(())
///     },
///     ConsumerConfig::default(),
/// );
/// ```
#[doc(alias = "TaskConsumer")]
pub struct Consumer {
    handler: Arc<dyn Handler>,
    limiter: Option<Arc<dyn RateLimiter>>,
    dedup: Option<Arc<dyn DeduplicationCache>>,
    inbox: bool,
    breaker: Option<Mutex<Breaker>>,
    config: ConsumerConfig,
}

impl Consumer {
    /// A consumer around `handler`.
    pub fn new(handler: impl Handler + 'static, config: ConsumerConfig) -> Self {
        let breaker = config
            .breaker
            .map(|breaker| Mutex::new(Breaker::new(breaker)));
        Self {
            handler: Arc::new(handler),
            limiter: None,
            dedup: None,
            inbox: false,
            breaker,
            config,
        }
    }

    /// Asks `limiter` for a permit before each handling; without one the delivery is delayed, and no
    /// attempt is counted.
    #[must_use]
    pub fn limiter(mut self, limiter: Arc<dyn RateLimiter>) -> Self {
        self.limiter = Some(limiter);
        self
    }

    /// Claims each message in `cache` around its handling.
    #[must_use]
    pub fn dedup(mut self, cache: Arc<dyn DeduplicationCache>) -> Self {
        self.dedup = Some(cache);
        self
    }

    /// Says that the handler itself records each message in an inbox, in its own transaction.
    #[must_use]
    pub fn behind_inbox(mut self) -> Self {
        self.inbox = true;
        self
    }

    pub(super) fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    pub(super) fn is_guarded(&self) -> bool {
        self.inbox || self.dedup.is_some()
    }

    /// Whether admission takes no call to any store.
    pub(super) fn admits_at_once(&self) -> bool {
        self.limiter.is_none() && self.dedup.is_none()
    }

    pub(super) fn handler(&self) -> Arc<dyn Handler> {
        Arc::clone(&self.handler)
    }

    /// Until when the breaker lets nothing through, and how many it lets through now.
    pub(super) fn permit(&self, wanted: usize, now: Timestamp) -> (usize, Option<Timestamp>) {
        match self.with_breaker(|breaker| breaker.permit(now)) {
            None | Some(Permission::Granted) => (wanted, None),
            Some(Permission::Trial) => (1, None),
            Some(Permission::Denied { until }) => (0, Some(until)),
        }
    }

    fn with_breaker<T>(&self, ask: impl FnOnce(&mut Breaker) -> T) -> Option<T> {
        let breaker = self.breaker.as_ref()?;
        Some(ask(&mut breaker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)))
    }

    /// Decides which of `deliveries` may be handled now.
    ///
    /// # Cancel safety
    /// Permits and claims that were taken are not given back; claims end with their lease.
    pub(super) async fn admit(&self, deliveries: Vec<Delivery>, now: Timestamp) -> Admission {
        let mut admission = Admission::default();
        let fresh = match self.claim(deliveries, now, &mut admission).await {
            Ok(fresh) => fresh,
            Err(deliveries) => {
                self.turn_away(deliveries, now + self.config.claim_lease, &mut admission);
                return admission;
            }
        };
        self.limit(fresh, now, &mut admission).await;
        admission
    }

    /// Claims messages in the deduplication cache; answers the deliveries where it failed.
    async fn claim(
        &self,
        deliveries: Vec<Delivery>,
        now: Timestamp,
        admission: &mut Admission,
    ) -> Result<Vec<Admitted>, Vec<Admitted>> {
        let Some(dedup) = &self.dedup else {
            return Ok(deliveries.into_iter().map(Admitted::unclaimed).collect());
        };
        let ids: Vec<MessageId> = deliveries.iter().map(|d| d.message.id).collect();
        let problem = match dedup.claim(&ids, self.config.claim_lease, now).await {
            Ok(claims) if claims.len() == ids.len() => {
                return Ok(sort_by_claim(deliveries, claims, admission));
            }
            Ok(claims) => format!("it answered {} claims for {} ids", claims.len(), ids.len()),
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            problem,
            "deduplication cache failed; deliveries are delayed"
        );
        Err(deliveries.into_iter().map(Admitted::unclaimed).collect())
    }

    /// Takes permits for as many of `fresh` as there are, in as few requests as possible.
    async fn limit(&self, fresh: Vec<Admitted>, now: Timestamp, admission: &mut Admission) {
        let Some(limiter) = &self.limiter else {
            admission.admitted = fresh;
            return;
        };
        let mut waiting = fresh;
        let mut wanted = waiting.len();
        while !waiting.is_empty() {
            let permits = u32::try_from(wanted).unwrap_or(u32::MAX);
            match limiter.allow_request(permits, now).await {
                Ok(RateDecision::Allowed { .. }) => {
                    let rest = waiting.split_off(wanted);
                    admission.admitted.append(&mut waiting);
                    waiting = rest;
                    wanted = wanted.min(waiting.len());
                }
                Ok(RateDecision::Limited { .. }) | Err(OutboxError::Limit { .. }) if wanted > 1 => {
                    wanted /= 2;
                }
                Ok(RateDecision::Limited { retry_after }) => {
                    let until = now + retry_after;
                    return self.turn_away(waiting, until, admission);
                }
                Err(error) => {
                    tracing::warn!(%error, "rate limiter failed; deliveries are delayed");
                    return self.turn_away(waiting, now + Duration::from_secs(1), admission);
                }
            }
        }
    }

    fn turn_away(&self, deliveries: Vec<Admitted>, until: Timestamp, admission: &mut Admission) {
        admission.closed_until = Some(until);
        admission.decided.extend(
            deliveries
                .into_iter()
                .map(|one| Decided::delayed(one, until)),
        );
    }

    /// Decides what becomes of a delivery that was handled.
    pub(super) fn judge(&self, ended: Ended, entropy: &Entropy) -> Decided {
        let took = ended.ended.since(ended.started);
        let mut decided = self.judge_ending(ended, entropy);
        decided.handled = true;
        decided.took = took;
        let failed = !matches!(decided.fate, Fate::Done | Fate::Duplicate);
        if failed && self.config.semantics == Semantics::AtMostOnce {
            decided.fate = Fate::Dropped;
        }
        decided
    }

    fn judge_ending(&self, ended: Ended, entropy: &Entropy) -> Decided {
        let Ended {
            admitted,
            ending,
            started,
            ended,
        } = ended;
        let failure = |kind: &str, error: String| AttemptRecord {
            at: started,
            duration: ended.since(started),
            kind: kind.to_owned(),
            error,
        };
        let (after, failure) = match ending {
            Ending::Answered(Ok(answer)) => {
                self.with_breaker(Breaker::succeeded);
                let fate = match answer {
                    Handled::Done => Fate::Done,
                    Handled::Duplicate => Fate::Duplicate,
                };
                return Decided::new(admitted, DeliveryOutcome::Done, fate, None);
            }
            Ending::Answered(Err(error)) => {
                let failure = failure(error.kind(), error_text(&error, ERROR_TEXT_BYTES));
                match error {
                    HandlerError::Retry { after, .. } => (after, failure),
                    HandlerError::Reject(_) => {
                        self.with_breaker(Breaker::succeeded);
                        return Decided::quarantined(admitted, failure);
                    }
                }
            }
            Ending::Broken(problem) => (None, failure("broken", problem)),
        };
        self.with_breaker(|breaker| breaker.failed(ended));
        let message = &admitted.delivery.message;
        let attempt = admitted.delivery.attempt;
        match self
            .config
            .retry
            .next_delay(attempt, message.retry.as_ref(), entropy)
        {
            Some(delay) => {
                let due_at = ended + after.unwrap_or(delay);
                Decided::retried(admitted, due_at, failure)
            }
            None => Decided::quarantined(admitted, failure),
        }
    }

    /// Records what was decided in the deduplication cache, before it is settled: a crash between
    /// the two makes the next delivery a duplicate.
    pub(super) async fn conclude(&self, decided: &[Decided], now: Timestamp) {
        let Some(dedup) = &self.dedup else {
            return;
        };
        let claims = |done: bool| -> Vec<(MessageId, ClaimToken)> {
            decided
                .iter()
                .filter(|one| matches!(one.fate, Fate::Done | Fate::Duplicate) == done)
                .filter_map(|one| Some((one.delivery.message.id, one.claim?)))
                .collect()
        };
        let (done, failed) = (claims(true), claims(false));
        if !done.is_empty() {
            log_failure(
                "complete",
                dedup.complete(&done, self.config.remember, now).await,
            );
        }
        if !failed.is_empty() {
            log_failure("release", dedup.release(&failed, now).await);
        }
    }

    /// Records deliveries as processed that are acknowledged before they are handled.
    pub(super) async fn remember(&self, admitted: &mut [Admitted], now: Timestamp) {
        let claims: Vec<_> = admitted
            .iter_mut()
            .filter_map(|one| Some((one.delivery.message.id, one.claim.take()?)))
            .collect();
        if let (Some(dedup), false) = (&self.dedup, claims.is_empty()) {
            let lifetime = self.config.remember;
            log_failure("complete", dedup.complete(&claims, lifetime, now).await);
        }
    }

    /// Extends deduplication claims.
    pub(super) async fn extend(&self, claims: &[(MessageId, ClaimToken)], now: Timestamp) {
        if let (Some(dedup), false) = (&self.dedup, claims.is_empty()) {
            log_failure(
                "extend",
                dedup.extend(claims, self.config.claim_lease, now).await,
            );
        }
    }
}

/// Sorts deliveries by what became of their claims: those that may be handled are answered.
fn sort_by_claim(
    deliveries: Vec<Delivery>,
    claims: Vec<Claim>,
    admission: &mut Admission,
) -> Vec<Admitted> {
    let mut fresh = Vec::with_capacity(claims.len());
    for (delivery, claim) in deliveries.into_iter().zip(claims) {
        match claim {
            Claim::Acquired(token) => fresh.push(Admitted {
                delivery,
                claim: Some(token),
            }),
            Claim::Done => admission.decided.push(Decided::duplicate(delivery)),
            Claim::InProgress { until } => {
                let waits = Decided::delayed(Admitted::unclaimed(delivery), until);
                admission.decided.push(waits);
            }
        }
    }
    fresh
}

fn log_failure(operation: &str, answer: Result<Vec<bool>>) {
    match answer {
        Ok(effects) => {
            let lost = effects.iter().filter(|effect| !**effect).count();
            if lost > 0 {
                tracing::warn!(operation, lost, "deduplication claims were lost");
            }
        }
        Err(error) => tracing::warn!(operation, %error, "deduplication cache failed"),
    }
}
