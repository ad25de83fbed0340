//! What the tests of this module publish, and where to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::runs::{Answer, HeldKeys};
use crate::error::PublishError;
use crate::id::MessageId;
use crate::message::{Message, NewMessage};
use crate::ports::Publisher;
use crate::status::Ordering;
use crate::time::Timestamp;

pub(super) fn id(n: u8) -> MessageId {
    MessageId::from_bytes([n; 16])
}

pub(super) fn message(n: u8, topic: &str, key: Option<&str>) -> Message {
    let mut new = NewMessage::new(topic, Bytes::new());
    new.ordering_key = key.map(str::to_owned);
    Message::appended(&new, id(n), Timestamp::EPOCH)
}

pub(super) fn number(message: &Message) -> u8 {
    message.id.as_bytes()[0]
}

pub(super) fn kinds(answers: &[Answer]) -> Vec<&'static str> {
    let kind = |answer: &Answer| answer.as_ref().map_or_else(PublishError::kind, |()| "ok");
    answers.iter().map(kind).collect()
}

/// What a [`Sink`] does with a message instead of taking it.
#[derive(Clone, Copy)]
pub(super) enum Trouble {
    Fail,
    Refuse,
    Unavailable(Option<Duration>),
    Hang,
}

/// A destination that takes every message, but for the troubles that it is given.
pub(super) struct Sink {
    name: String,
    ordering: Ordering,
    taken: Mutex<Vec<u8>>,
    calls: Mutex<usize>,
    troubles: Mutex<BTreeMap<u8, VecDeque<Trouble>>>,
}

impl Sink {
    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self::with(name, Ordering::PerKey))
    }

    pub(super) fn unordered(name: &str) -> Self {
        Self::with(name, Ordering::None)
    }

    fn with(name: &str, ordering: Ordering) -> Self {
        Self {
            name: name.to_owned(),
            ordering,
            taken: Mutex::default(),
            calls: Mutex::default(),
            troubles: Mutex::default(),
        }
    }

    /// Gives message `n` one more trouble, to be met once.
    pub(super) fn trouble(&self, n: u8, trouble: Trouble) -> &Self {
        let mut troubles = self.troubles.lock().unwrap();
        troubles.entry(n).or_default().push_back(trouble);
        self
    }

    /// What was taken, in order.
    pub(super) fn taken(&self) -> Vec<u8> {
        self.taken.lock().unwrap().clone()
    }

    /// How often it was called.
    pub(super) fn calls(&self) -> usize {
        *self.calls.lock().unwrap()
    }

    async fn take(&self, message: &Message) -> Answer {
        let n = number(message);
        let trouble = self
            .troubles
            .lock()
            .unwrap()
            .get_mut(&n)
            .and_then(VecDeque::pop_front);
        match trouble {
            None => {
                self.taken.lock().unwrap().push(n);
                Ok(())
            }
            Some(Trouble::Fail) => Err(PublishError::failed("trouble")),
            Some(Trouble::Refuse) => Err(PublishError::refused("never")),
            Some(Trouble::Unavailable(retry_after)) => Err(PublishError::Unavailable {
                retry_after,
                source: "away".into(),
            }),
            Some(Trouble::Hang) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Publisher for Sink {
    fn name(&self) -> &str {
        &self.name
    }

    fn ordering(&self) -> Ordering {
        self.ordering
    }

    fn pipeline_depth(&self) -> usize {
        3
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Answer> {
        *self.calls.lock().unwrap() += 1;
        let mut held = HeldKeys::default();
        let mut answers = Vec::new();
        for message in messages {
            let behind = held.holds(message);
            let answer = if behind {
                Err(PublishError::HeldBack)
            } else {
                self.take(message).await
            };
            held.note(message, &answer);
            answers.push(answer);
        }
        answers
    }
}
