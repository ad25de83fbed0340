use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use tokio::time::Instant;

use super::subscriber::{Patience, Selector, Subscriber, Subscription};
use crate::error::PublishError;
use crate::id::MessageId;
use crate::message::Message;
use crate::ports::Publisher;
use crate::publish::failures::{DestinationError, combine, longest};
use crate::publish::runs::{Answer, HeldKeys};
use crate::status::Ordering;

/// The most messages whose partial delivery a bus remembers; beyond it the oldest are forgotten.
const REMEMBERED: usize = 10_000;

/// What a bus answers for a message that no subscriber hears.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unheard {
    /// The attempt fails: the message is retried while subscribers may still come, and rests in
    /// quarantine in the end.
    #[default]
    Fail,
    /// It counts as published: for events that nobody need care about.
    Accept,
}

/// How a bus behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventBusConfig {
    /// The longest time that a handler may take for one message, and that one call waits for room
    /// in full channels; 5 s by default.
    pub timeout: Duration,
    /// The most messages delivered at the same time; 64 by default, at least 1.
    pub concurrency: usize,
    /// What becomes of a message without a subscriber; fails by default.
    pub unheard: Unheard,
}

impl Default for EventBusConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            concurrency: 64,
            unheard: Unheard::Fail,
        }
    }
}

/// Publishes to subscribers in this process: bounded channels and handler functions, chosen by
/// topic and kind.
///
/// A message is published once every subscriber that hears it has it. A channel has it when there
/// was room: what waits there dies with the process, so subscribe a handler where that matters. A
/// full or abandoned channel answers [`PublishError::Unavailable`], a handler's own error is told
/// as it is, and its panic or timeout as [`PublishError::Failed`]. A repeated message goes only to
/// the subscribers that do not have it yet, as long as the process lives.
///
/// Each topic is a destination of its own, named `bus/topic`.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use outbox_core::id::MessageId;
/// use outbox_core::message::{Message, NewMessage};
/// use outbox_core::ports::Publisher;
/// use outbox_core::publish::{EventBus, Selector};
/// use outbox_core::time::Timestamp;
///
/// let bus = EventBus::new("events");
/// let mut billing = bus.subscribe("billing", Selector::topic("orders"), 64);
/// bus.on("audit", Selector::everything(), async |message: Message| {
///     tracing::info!(id = %message.id, "seen");
///     Ok(())
/// });
///
/// let new = NewMessage::new("orders", "order 7");
/// let message = Message::appended(&new, MessageId::from_bytes([7; 16]), Timestamp::EPOCH);
/// assert!(bus.publish(&[message.clone()]).await[0].is_ok());
/// assert_eq!(billing.next().await, Some(message));
/// # });
/// ```
#[doc(alias = "event_bus")]
pub struct EventBus {
    name: String,
    config: EventBusConfig,
    subscribers: RwLock<Vec<Arc<Subscriber>>>,
    partly: Mutex<BTreeMap<MessageId, Vec<Arc<str>>>>,
}

impl EventBus {
    /// A bus without subscribers, named `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            config: EventBusConfig::default(),
            subscribers: RwLock::default(),
            partly: Mutex::default(),
        }
    }

    /// Replaces the configuration.
    #[must_use]
    pub fn config(mut self, config: EventBusConfig) -> Self {
        self.config = config;
        self
    }

    /// Subscribes a channel for `capacity` messages, at least 1, under `name`; replaces an earlier
    /// subscriber of that name.
    pub fn subscribe(&self, name: &str, selector: Selector, capacity: usize) -> Subscription {
        let (subscriber, subscription) = Subscriber::channel(name, selector, capacity);
        self.add(subscriber);
        subscription
    }

    /// Subscribes a handler under `name`; replaces an earlier subscriber of that name.
    ///
    /// `Ok` from the handler means that it is done with the message for good.
    pub fn on<F, Fut>(&self, name: &str, selector: Selector, handle: F)
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), PublishError>> + Send + 'static,
    {
        self.add(Subscriber::handler(name, selector, handle));
    }

    /// Lets the subscriber named `name` go; whether there was one.
    pub fn unsubscribe(&self, name: &str) -> bool {
        let mut subscribers = self
            .subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = subscribers.len();
        subscribers.retain(|subscriber| *subscriber.name != *name);
        subscribers.len() < before
    }

    fn add(&self, subscriber: Subscriber) {
        let mut subscribers = self
            .subscribers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        subscribers.retain(|earlier| earlier.name != subscriber.name);
        subscribers.push(Arc::new(subscriber));
    }

    fn partly(&self) -> MutexGuard<'_, BTreeMap<MessageId, Vec<Arc<str>>>> {
        self.partly.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, id: MessageId, subscriber: &Arc<str>) {
        let mut partly = self.partly();
        partly.entry(id).or_default().push(Arc::clone(subscriber));
        if partly.len() > REMEMBERED {
            partly.pop_first();
        }
    }

    fn unheard(&self, message: &Message) -> Answer {
        match self.config.unheard {
            Unheard::Accept => Ok(()),
            Unheard::Fail => Err(PublishError::failed(NobodyListens {
                topic: message.topic.clone(),
                kind: message.kind.to_string(),
            })),
        }
    }
}

/// A message that no subscriber hears.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody listens to topic `{topic}`, kind {kind}")]
pub struct NobodyListens {
    /// The message's topic.
    pub topic: String,
    /// The message's kind.
    pub kind: String,
}

/// One call of [`Publisher::publish`]: the subscribers of that moment, and their time.
struct Call<'b> {
    bus: &'b EventBus,
    subscribers: Vec<Arc<Subscriber>>,
    patience: Patience,
}

impl<'b> Call<'b> {
    fn new(bus: &'b EventBus) -> Self {
        let subscribers = bus
            .subscribers
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let timeout = bus.config.timeout;
        Self {
            bus,
            subscribers: subscribers.clone(),
            patience: Patience {
                timeout,
                until: Instant::now() + timeout,
            },
        }
    }

    /// Delivers messages one after another, up to the first failure of each key.
    async fn lane(&self, lane: Vec<(usize, &Message)>) -> Vec<(usize, Answer)> {
        let mut held = HeldKeys::default();
        let mut answers = Vec::with_capacity(lane.len());
        for (place, message) in lane {
            let behind = held.holds(message);
            let answer = if behind {
                Err(PublishError::HeldBack)
            } else {
                self.deliver(message).await
            };
            held.note(message, &answer);
            answers.push((place, answer));
        }
        answers
    }

    async fn deliver(&self, message: &Message) -> Answer {
        let hears = |subscriber: &&Arc<Subscriber>| subscriber.selector.selects(message);
        let hearers: Vec<_> = self.subscribers.iter().filter(hears).collect();
        if hearers.is_empty() {
            return self.bus.unheard(message);
        }
        let alone = hearers.len() == 1;
        let known = self
            .bus
            .partly()
            .get(&message.id)
            .cloned()
            .unwrap_or_default();
        let owed = hearers
            .into_iter()
            .filter(|hearer| !known.contains(&hearer.name));
        let calls: Vec<_> = owed
            .map(|hearer| self.give(message, hearer, alone))
            .collect();
        let failures: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
        if failures.is_empty() {
            self.bus.partly().remove(&message.id);
            return Ok(());
        }
        Err(combine(failures, longest))
    }

    /// Gives `message` to one subscriber, and remembers at once that it has it, unless it is the
    /// only one: the call may be cancelled while others take their time.
    async fn give(
        &self,
        message: &Message,
        subscriber: &Subscriber,
        alone: bool,
    ) -> Option<DestinationError> {
        let answer = subscriber.give(message, self.patience).await;
        if answer.is_ok() && !alone {
            self.bus.remember(message.id, &subscriber.name);
        }
        answer.err().map(|error| DestinationError {
            destination: subscriber.name.to_string(),
            error,
        })
    }
}

/// One lane for each key, in order, and one for each message without a key.
fn lanes(messages: &[Message]) -> Vec<Vec<(usize, &Message)>> {
    let mut lanes: Vec<Vec<_>> = Vec::new();
    let mut by_key = HashMap::new();
    for (place, message) in messages.iter().enumerate() {
        let fresh = lanes.len();
        let lane = match message.ordering_key.as_deref() {
            Some(key) => *by_key.entry(key).or_insert(fresh),
            None => fresh,
        };
        match lanes.get_mut(lane) {
            Some(lane) => lane.push((place, message)),
            None => lanes.push(vec![(place, message)]),
        }
    }
    lanes
}

#[async_trait]
impl Publisher for EventBus {
    fn name(&self) -> &str {
        &self.name
    }

    fn destination<'a>(&'a self, message: &'a Message) -> Cow<'a, str> {
        Cow::Owned(format!("{}/{}", self.name, message.topic))
    }

    fn routes(&self) -> bool {
        true
    }

    fn ordering(&self) -> Ordering {
        Ordering::PerKey
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let call = Call::new(self);
        let lanes: Vec<_> = lanes(messages)
            .into_iter()
            .map(|lane| call.lane(lane))
            .collect();
        let concurrency = self.config.concurrency.max(1);
        let done = stream::iter(lanes).buffer_unordered(concurrency);
        let answers: Vec<Vec<(usize, Answer)>> = done.collect().await;
        let in_place: BTreeMap<usize, Answer> = answers.into_iter().flatten().collect();
        in_place.into_values().collect()
    }
}
