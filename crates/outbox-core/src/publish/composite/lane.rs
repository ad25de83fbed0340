use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::config::{CompositeConfig, Destination};
use crate::error::{OutboxError, PublishError};
use crate::id::{Entropy, MessageId};
use crate::message::Message;
use crate::policy::{Breaker, BreakerState, Permission, RetryPolicy};
use crate::ports::{Clock, DeliveryLog};
use crate::publish::runs::{Answer, publish_runs, select};

/// What all lanes of a composite share.
pub(super) struct Shared {
    pub(super) log: Arc<dyn DeliveryLog>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Entropy,
}

/// How long a destination whose failure is forgiven is tried.
#[derive(Clone, Copy)]
pub(super) struct Budget {
    pub(super) until: Instant,
    pub(super) retry: RetryPolicy,
}

/// The way to one destination.
pub(super) struct Lane {
    pub(super) destination: Destination,
    breaker: Mutex<Breaker>,
}

/// The delivery log could not be read, so that it is not known who has the message.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the delivery log cannot be read: {0}")]
struct LogUnreadable(#[source] Arc<OutboxError>);

/// A destination that did not answer within the budget.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no answer in time")]
struct NoAnswerInTime;

/// A destination that is left alone until its breaker lets a trial pass.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the breaker is open")]
struct BreakerOpen;

impl Lane {
    pub(super) fn new(destination: Destination, config: &CompositeConfig) -> Self {
        Self {
            destination,
            breaker: Mutex::new(Breaker::new(config.breaker)),
        }
    }

    /// Sends what the destination does not have, and records what it took at once: the call may be
    /// cancelled while other destinations take their time.
    pub(super) async fn deliver(&self, messages: &[Message], shared: &Shared) -> Vec<Answer> {
        if messages.is_empty() {
            return Vec::new();
        }
        let known = match self.known(messages, shared).await {
            Ok(known) => known,
            Err(error) => {
                let unread = || Err(PublishError::unavailable(error.clone()));
                return messages.iter().map(|_| unread()).collect();
            }
        };
        let missing = select(messages, |place| !known[place]);
        let publisher = self.destination.publisher.as_ref();
        let sent = publish_runs(&missing, |_| publisher).await;
        self.record(&missing, &sent, shared).await;
        let mut sent = sent.into_iter();
        let answer = |known| if known { Ok(()) } else { next(&mut sent) };
        known.into_iter().map(answer).collect()
    }

    /// Delivers while the breaker, the budget and the attempts last.
    pub(super) async fn deliver_within(
        &self,
        messages: &[Message],
        budget: Budget,
        shared: &Shared,
    ) -> Vec<Answer> {
        let mut answers: Vec<Answer> = self.try_once(messages, budget.until, shared).await;
        let mut attempt = 1;
        while let Some(delay) = self.again(&answers, attempt, budget, shared) {
            sleep_until(Instant::now() + delay).await;
            attempt += 1;
            let open = select(messages, |place| may_improve(&answers[place]));
            let retried = self.try_once(&open, budget.until, shared).await;
            let open = answers.iter_mut().filter(|answer| may_improve(answer));
            for (answer, retried) in open.zip(retried) {
                *answer = retried;
            }
        }
        answers
    }

    /// The delay before the next attempt; `None` where none may help or none is left. Waiting for a
    /// breaker is left to the next calls.
    fn again(
        &self,
        answers: &[Answer],
        attempt: u32,
        budget: Budget,
        shared: &Shared,
    ) -> Option<Duration> {
        if !answers.iter().any(may_improve) {
            return None;
        }
        let delay = budget.retry.next_delay(attempt, None, &shared.entropy)?;
        let in_time = Instant::now() + delay < budget.until;
        let closed = self.breaker().state() == BreakerState::Closed;
        (in_time && closed).then_some(delay)
    }

    async fn try_once(&self, messages: &[Message], until: Instant, shared: &Shared) -> Vec<Answer> {
        let permission = self.breaker().permit(shared.clock.now());
        match permission {
            Permission::Granted => self.call(messages, until, shared).await,
            Permission::Trial => self.trial(messages, until, shared).await,
            Permission::Denied { until } => {
                let wait = until.since(shared.clock.now());
                all_unavailable(messages, Some(wait), BreakerOpen)
            }
        }
    }

    /// Sends one message, and the others only where that closed the breaker.
    async fn trial(&self, messages: &[Message], until: Instant, shared: &Shared) -> Vec<Answer> {
        let (first, rest) = messages.split_at(messages.len().min(1));
        let mut answers = self.call(first, until, shared).await;
        let passed = self.breaker().state() == BreakerState::Closed;
        answers.extend(match passed {
            true => self.call(rest, until, shared).await,
            false => all_unavailable(rest, None, BreakerOpen),
        });
        answers
    }

    async fn call(&self, messages: &[Message], until: Instant, shared: &Shared) -> Vec<Answer> {
        let answers = match timeout_at(until, self.deliver(messages, shared)).await {
            Ok(answers) => answers,
            Err(_) => all_unavailable(messages, None, NoAnswerInTime),
        };
        self.tell_breaker(&answers, shared);
        answers
    }

    fn tell_breaker(&self, answers: &[Answer], shared: &Shared) {
        let errors = || answers.iter().filter_map(|answer| answer.as_ref().err());
        let waits = errors().filter_map(|error| match error {
            PublishError::Unavailable { retry_after, .. } => Some(*retry_after),
            _ => None,
        });
        let failed = errors().any(|error| matches!(error, PublishError::Failed(_)));
        let mut breaker = self.breaker();
        match waits.max() {
            Some(wait) => breaker.unavailable(shared.clock.now(), wait),
            None if failed && answers.iter().all(Result::is_err) => {
                breaker.failed(shared.clock.now());
            }
            None => breaker.succeeded(),
        }
    }

    async fn known(
        &self,
        messages: &[Message],
        shared: &Shared,
    ) -> Result<Vec<bool>, LogUnreadable> {
        let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
        let known = shared.log.delivered(&ids, &self.destination.name).await;
        let mut known = known.map_err(|error| LogUnreadable(Arc::new(error)))?;
        known.resize(messages.len(), false);
        Ok(known)
    }

    /// A record that cannot be made is told and let go: the message was sent, and its answer must
    /// say so; a retry for another destination's sake then sends it here again.
    async fn record(&self, messages: &[Message], sent: &[Answer], shared: &Shared) {
        let taken = messages
            .iter()
            .zip(sent)
            .filter(|(_, answer)| answer.is_ok());
        let ids: Vec<MessageId> = taken.map(|(message, _)| message.id).collect();
        if ids.is_empty() {
            return;
        }
        let destination = self.destination.name.as_str();
        let now = shared.clock.now();
        if let Err(error) = shared.log.record(&ids, destination, now).await {
            let messages = ids.len();
            tracing::warn!(destination, messages, %error, "deliveries could not be recorded");
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn next(sent: &mut impl Iterator<Item = Answer>) -> Answer {
    sent.next()
        .unwrap_or_else(|| Err(PublishError::failed("no answer")))
}

fn may_improve(answer: &Answer) -> bool {
    answer.as_ref().is_err_and(PublishError::is_transient)
}

fn all_unavailable<E>(messages: &[Message], retry_after: Option<Duration>, error: E) -> Vec<Answer>
where
    E: std::error::Error + Copy + Send + Sync + 'static,
{
    let unavailable = |_| {
        Err(PublishError::Unavailable {
            retry_after,
            source: error.into(),
        })
    };
    messages.iter().map(unavailable).collect()
}
