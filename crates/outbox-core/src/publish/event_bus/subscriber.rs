use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::{Panicked, PublishError};
use crate::message::Message;
use crate::publish::runs::Answer;

/// Which messages a subscriber hears: those that fit every field that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Only this topic; any where `None`, the default.
    pub topic: Option<String>,
    /// Only kinds of this name, whatever their version; any where `None`, the default.
    pub kind: Option<String>,
}

impl Selector {
    /// Every message.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// The messages of one topic.
    pub fn topic(topic: impl Into<String>) -> Self {
        Self {
            topic: Some(topic.into()),
            kind: None,
        }
    }

    /// The messages of one kind.
    pub fn kind(kind: impl Into<String>) -> Self {
        Self {
            topic: None,
            kind: Some(kind.into()),
        }
    }

    /// Whether `message` fits.
    #[must_use]
    pub fn selects(&self, message: &Message) -> bool {
        let fits = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        fits(&self.topic, &message.topic) && fits(&self.kind, &message.kind.name)
    }
}

/// The receiving end of [`super::EventBus::subscribe`].
///
/// Dropping it does not end the subscription: messages then wait in their outbox for the same name
/// to subscribe again, or for [`super::EventBus::unsubscribe`].
#[derive(Debug)]
pub struct Subscription {
    receiver: mpsc::Receiver<Message>,
}

impl Subscription {
    /// The next message; `None` once the bus has let the subscriber go and nothing is left.
    ///
    /// # Cancel safety
    /// Safe: a dropped call takes no message.
    pub async fn next(&mut self) -> Option<Message> {
        self.receiver.recv().await
    }
}

/// Why a subscriber did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriberError {
    /// Its channel had no room in time.
    #[error("the subscriber's channel is full")]
    Full,
    /// Its receiving end was dropped.
    #[error("the subscriber is gone")]
    Gone,
    /// Its handler took longer than it may.
    #[error("the subscriber took longer than {0:?}")]
    TimedOut(Duration),
}

type BoxedHandler = Box<dyn Fn(Message) -> BoxFuture<'static, Answer> + Send + Sync>;

enum Ear {
    Channel(mpsc::Sender<Message>),
    Handler(BoxedHandler),
}

/// One who hears messages.
pub(super) struct Subscriber {
    pub(super) name: Arc<str>,
    pub(super) selector: Selector,
    ear: Ear,
}

/// How long subscribers may take.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// The longest time for one handler.
    pub(super) timeout: Duration,
    /// When waiting for room in channels ends, for a whole call.
    pub(super) until: Instant,
}

impl Subscriber {
    /// One with a channel for `capacity` messages.
    pub(super) fn channel(name: &str, selector: Selector, capacity: usize) -> (Self, Subscription) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let subscriber = Self {
            name: name.into(),
            selector,
            ear: Ear::Channel(sender),
        };
        (subscriber, Subscription { receiver })
    }

    /// One with a handler.
    pub(super) fn handler<F, Fut>(name: &str, selector: Selector, handle: F) -> Self
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        Self {
            name: name.into(),
            selector,
            ear: Ear::Handler(Box::new(move |message| handle(message).boxed())),
        }
    }

    /// Gives it `message`.
    pub(super) async fn give(&self, message: &Message, patience: Patience) -> Answer {
        match &self.ear {
            Ear::Channel(sender) => match timeout_at(patience.until, sender.reserve()).await {
                Ok(Ok(room)) => {
                    room.send(message.clone());
                    Ok(())
                }
                Ok(Err(_)) => Err(PublishError::unavailable(SubscriberError::Gone)),
                Err(_) => Err(PublishError::unavailable(SubscriberError::Full)),
            },
            Ear::Handler(handle) => {
                let call = async { handle(message.clone()).await };
                let caught = AssertUnwindSafe(call).catch_unwind();
                match timeout(patience.timeout, caught).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(panic)) => Err(PublishError::failed(Panicked::from(panic))),
                    Err(_) => Err(timed_out(patience.timeout)),
                }
            }
        }
    }
}

fn timed_out(after: Duration) -> PublishError {
    PublishError::failed(SubscriberError::TimedOut(after))
}
