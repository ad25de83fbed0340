use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use tokio::time::Instant;

use super::config::{CompositeConfig, Destination, Strategy, check};
use super::lane::{Budget, Lane, Shared};
use crate::error::{ConfigError, PublishError};
use crate::id::Entropy;
use crate::message::Message;
use crate::policy::RetryPolicy;
use crate::ports::{Clock, DeliveryLog, Publisher};
use crate::publish::failures::{DestinationError, combine, longest, shortest};
use crate::publish::runs::{Answer, select};
use crate::status::Ordering;
use crate::time::SystemClock;

/// How many deliveries are recorded between two purges of the log; a purge forgets up to twice as
/// many, so that the log shrinks towards its retention however fast messages come.
const PURGE_EVERY: usize = 1_000;

/// Publishes every message to several destinations, and remembers who has it.
///
/// Each delivery is recorded in a [`DeliveryLog`] under the message and the destination, as soon as
/// the destination has answered: a retry, also one by another relay after a crash, sends a message
/// only where it is missing. A crash between a send and its record repeats that send: each
/// destination gets each message at least once.
///
/// What [`Strategy::Any`] and [`Strategy::Primary`] let a destination miss is told by a warning
/// event with the destination and the number of messages. A destination may miss messages, but
/// never sees those of one ordering key out of their order, where its publisher keeps it.
///
/// ```
/// use outbox_core::memory::MemoryDeliveryLog;
/// use outbox_core::publish::{CompositeConfig, CompositePublisher, Destination, EventBus};
/// use std::sync::Arc;
///
/// let destinations = vec![
///     Destination::new(Arc::new(EventBus::new("billing"))),
///     Destination::new(Arc::new(EventBus::new("search"))),
/// ];
/// let log = Arc::new(MemoryDeliveryLog::new());
/// let config = CompositeConfig::default();
/// let everywhere = CompositePublisher::new("everywhere", destinations, log, config).unwrap();
/// ```
#[doc(alias = "composite")]
pub struct CompositePublisher {
    name: String,
    lanes: Vec<Lane>,
    config: CompositeConfig,
    shared: Shared,
    unpurged: AtomicUsize,
}

impl CompositePublisher {
    /// Publishes to `destinations`, the primary first, on the system's clock and entropy.
    ///
    /// # Errors
    /// [`ConfigError`] with every setting that is out of its range, and every destination that has
    /// no name of its own.
    pub fn new(
        name: impl Into<String>,
        destinations: Vec<Destination>,
        log: Arc<dyn DeliveryLog>,
        config: CompositeConfig,
    ) -> Result<Self, ConfigError> {
        check(&destinations, &config)?;
        let lane = |destination| Lane::new(destination, &config);
        Ok(Self {
            name: name.into(),
            lanes: destinations.into_iter().map(lane).collect(),
            shared: Shared {
                log,
                clock: Arc::new(SystemClock),
                entropy: Entropy::from_system(),
            },
            unpurged: AtomicUsize::new(0),
            config,
        })
    }

    /// Replaces the clock and the source of jitter, for tests and simulations.
    #[must_use]
    pub fn driven_by(mut self, clock: Arc<dyn Clock>, entropy: Entropy) -> Self {
        self.shared.clock = clock;
        self.shared.entropy = entropy;
        self
    }

    async fn to_all(&self, messages: &[Message]) -> Vec<Answer> {
        let calls = self
            .lanes
            .iter()
            .map(|lane| lane.deliver(messages, &self.shared));
        let answers = join_all(calls.collect::<Vec<_>>()).await;
        let by_message = self.by_message(answers, messages.len());
        by_message
            .into_iter()
            .map(|failures| verdict(failures, 0, longest))
            .collect()
    }

    async fn to_any(&self, messages: &[Message]) -> Vec<Answer> {
        let once = RetryPolicy {
            max_attempts: 1,
            ..self.config.retry
        };
        let answers = self.forgiving(&self.lanes, messages, once).await;
        let has = |place: usize| answers.iter().any(|lane: &Vec<Answer>| lane[place].is_ok());
        let published: Vec<bool> = (0..messages.len()).map(has).collect();
        tell_missed(&self.lanes, &answers, &published);
        let forgiven = self.lanes.len() - 1;
        let by_message = self.by_message(answers, messages.len());
        by_message
            .into_iter()
            .map(|failures| verdict(failures, forgiven, shortest))
            .collect()
    }

    async fn to_primary(&self, messages: &[Message]) -> Vec<Answer> {
        let Some((primary, secondaries)) = self.lanes.split_first() else {
            return Vec::new();
        };
        let answers = primary.deliver(messages, &self.shared).await;
        let taken = select(messages, |place| {
            answers.get(place).is_some_and(Result::is_ok)
        });
        if !taken.is_empty() {
            let best = self.forgiving(secondaries, &taken, self.config.retry).await;
            tell_missed(secondaries, &best, &vec![true; taken.len()]);
        }
        answers
    }

    /// Delivers to `lanes` at the same time, within the budget.
    async fn forgiving(
        &self,
        lanes: &[Lane],
        messages: &[Message],
        retry: RetryPolicy,
    ) -> Vec<Vec<Answer>> {
        let until = Instant::now() + self.config.budget;
        let budget = Budget { until, retry };
        let calls = lanes
            .iter()
            .map(|lane| lane.deliver_within(messages, budget, &self.shared));
        join_all(calls.collect::<Vec<_>>()).await
    }

    /// Turns answers by destination into failures by message.
    fn by_message(&self, answers: Vec<Vec<Answer>>, messages: usize) -> Vec<Vec<DestinationError>> {
        let mut failures: Vec<Vec<_>> = (0..messages).map(|_| Vec::new()).collect();
        for (lane, answers) in self.lanes.iter().zip(answers) {
            for (failures, answer) in failures.iter_mut().zip(answers) {
                failures.extend(answer.err().map(|error| DestinationError {
                    destination: lane.destination.name.clone(),
                    error,
                }));
            }
        }
        failures
    }

    /// Forgets deliveries past their retention, in proportion to those that are added.
    async fn purge(&self, added: usize) {
        let unpurged = self.unpurged.fetch_add(added, Atomic::Relaxed) + added;
        if unpurged < PURGE_EVERY {
            return;
        }
        self.unpurged.store(0, Atomic::Relaxed);
        let before = self.shared.clock.now() - self.config.retention;
        if let Err(error) = self.shared.log.purge(before, 2 * unpurged).await {
            tracing::warn!(composite = self.name, %error, "old deliveries could not be forgotten");
        }
    }
}

/// `Ok` where no more destinations failed than are `forgiven`.
fn verdict(
    failures: Vec<DestinationError>,
    forgiven: usize,
    pick_wait: fn(Vec<Option<Duration>>) -> Option<Duration>,
) -> Answer {
    if failures.len() <= forgiven {
        return Ok(());
    }
    Err(combine(failures, pick_wait))
}

/// Tells which destinations will not get messages that count as published without them.
fn tell_missed(lanes: &[Lane], answers: &[Vec<Answer>], published: &[bool]) {
    for (lane, answers) in lanes.iter().zip(answers) {
        let forgiven = answers
            .iter()
            .zip(published)
            .filter(|(_, published)| **published);
        let mut errors = forgiven.filter_map(|(answer, _)| answer.as_ref().err());
        if let Some(error) = errors.next() {
            let destination = lane.destination.name.as_str();
            let messages = 1 + errors.count();
            tracing::warn!(destination, messages, %error, "a destination missed messages");
        }
    }
}

#[async_trait]
impl Publisher for CompositePublisher {
    fn name(&self) -> &str {
        &self.name
    }

    fn ordering(&self) -> Ordering {
        let orderings = self
            .lanes
            .iter()
            .map(|lane| lane.destination.publisher.ordering());
        orderings.min().unwrap_or(Ordering::None)
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let answers = match self.config.strategy {
            Strategy::All => self.to_all(messages).await,
            Strategy::Any => self.to_any(messages).await,
            Strategy::Primary => self.to_primary(messages).await,
        };
        self.purge(messages.len() * self.lanes.len()).await;
        answers
    }
}
