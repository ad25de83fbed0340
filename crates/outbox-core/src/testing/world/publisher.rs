use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;

use super::ledger::Ledger;
use super::queue::SimQueue;
use super::relying::Relying;
use super::trouble::{Outages, Trouble};
use crate::error::{PublishError, Result};
use crate::id::{Entropy, MessageId};
use crate::memory::MemoryDeliveryLog;
use crate::message::Message;
use crate::ports::{Clock, DeliveryLog, Publisher};
use crate::publish::{
    CompositeConfig, CompositePublisher, Destination, QueuePublisher, TopicRouter,
};
use crate::signal::Wake;
use crate::status::Ordering;
use crate::time::Timestamp;

/// The topic that goes to destination number `number`.
pub(super) fn topic(number: u64) -> String {
    format!("sim-{number}")
}

/// The ways out of an outbox, which outlive the relays that use them.
pub(super) struct Ways {
    doors: Vec<Arc<Door>>,
    mirror: Option<Arc<Mirror>>,
    relying: bool,
    log: Arc<SimLog>,
    ledger: Arc<Ledger>,
    trouble: Arc<Trouble>,
}

impl Ways {
    /// As many doors to the queue as the world has destinations, and its mirror.
    pub(super) fn new(queue: &SimQueue, ledger: &Arc<Ledger>, trouble: &Arc<Trouble>) -> Self {
        let config = ledger.read(|books| books.scenario().clone());
        let outages = || Outages::drawn(trouble, 2, config.mayhem);
        let doors = 0..config.destinations.max(1);
        let doors = doors.map(|number| {
            Arc::new(Door {
                name: format!("door {number}"),
                queue: QueuePublisher::new(Arc::new(queue.clone())),
                outages: outages(),
                trouble: Arc::clone(trouble),
            })
        });
        let mirror = |()| {
            Arc::new(Mirror {
                ledger: Arc::clone(ledger),
                outages: outages(),
                trouble: Arc::clone(trouble),
            })
        };
        Self {
            doors: doors.collect(),
            mirror: config.mirrored.then_some(()).map(mirror),
            relying: config.relying,
            log: Arc::new(SimLog {
                inner: Arc::default(),
                trouble: Arc::clone(trouble),
            }),
            ledger: Arc::clone(ledger),
            trouble: Arc::clone(trouble),
        }
    }

    /// What one relay publishes through.
    pub(super) fn publisher(
        &self,
        clock: &Arc<dyn Clock>,
        entropy: &Entropy,
    ) -> Result<Arc<dyn Publisher>> {
        let mut ways = Vec::new();
        for door in &self.doors {
            ways.push(self.way(door, clock, entropy)?);
        }
        let inner = match &ways[..] {
            [only] => Arc::clone(only),
            several => {
                let numbered = (0..).zip(several);
                let router = numbered.fold(TopicRouter::new("router"), |router, (n, way)| {
                    router.route(topic(n), Arc::clone(way))
                });
                Arc::new(router)
            }
        };
        let publisher = Arc::new(SimPublisher {
            inner,
            ledger: Arc::clone(&self.ledger),
            trouble: Arc::clone(&self.trouble),
        });
        Ok(if self.relying {
            Arc::new(Relying::new(publisher))
        } else {
            publisher
        })
    }

    /// The way through a door, and to the mirror where there is one.
    fn way(
        &self,
        door: &Arc<Door>,
        clock: &Arc<dyn Clock>,
        entropy: &Entropy,
    ) -> Result<Arc<dyn Publisher>> {
        let Some(mirror) = &self.mirror else {
            return Ok(Arc::clone(door) as _);
        };
        let both: [Arc<dyn Publisher>; 2] = [Arc::clone(door) as _, Arc::clone(mirror) as _];
        let composite = CompositePublisher::new(
            format!("both of {}", door.name),
            both.map(Destination::new).into(),
            Arc::clone(&self.log) as _,
            CompositeConfig::default(),
        )?;
        let composite = composite.driven_by(Arc::clone(clock), entropy.clone());
        Ok(Arc::new(composite))
    }
}

/// A publisher as a user's own may be: it panics, answers too few results, or calls the relay stale.
struct SimPublisher {
    inner: Arc<dyn Publisher>,
    ledger: Arc<Ledger>,
    trouble: Arc<Trouble>,
}

#[async_trait]
impl Publisher for SimPublisher {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn destination<'a>(&'a self, message: &'a Message) -> Cow<'a, str> {
        self.inner.destination(message)
    }

    fn routes(&self) -> bool {
        self.inner.routes()
    }

    fn rooms(&self) -> Vec<(String, Wake)> {
        self.inner.rooms()
    }

    fn ordering(&self) -> Ordering {
        self.inner.ordering()
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        self.ledger.write(|books, _| books.sending(messages));
        let wrong = self.trouble.strikes(self.trouble.rates().plug_in);
        let wrong = wrong.then(|| self.trouble.below(4));
        if wrong == Some(0) {
            let fenced = messages.iter().map(|_| PublishError::Fenced { seen: 0 });
            return fenced.map(Err).collect();
        }
        if wrong == Some(1) {
            // As a panic unwinds, but without its report on the standard error.
            std::panic::resume_unwind(Box::new("a panic on purpose"));
        }
        let mut results = self.inner.publish(messages).await;
        if wrong == Some(2) {
            std::panic::resume_unwind(Box::new("a panic on purpose"));
        }
        if wrong == Some(3) {
            results.pop();
        }
        results
    }
}

/// One destination: a door to the queue, closed at times.
struct Door {
    name: String,
    queue: QueuePublisher,
    outages: Outages,
    trouble: Arc<Trouble>,
}

#[async_trait]
impl Publisher for Door {
    fn name(&self) -> &str {
        &self.name
    }

    fn rooms(&self) -> Vec<(String, Wake)> {
        let rooms = self.queue.rooms().into_iter();
        rooms.map(|(_, wake)| (self.name.clone(), wake)).collect()
    }

    fn ordering(&self) -> Ordering {
        self.queue.ordering()
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        if self.trouble.is_on() && self.outages.is_away() {
            return away(messages);
        }
        self.queue.publish(messages).await
    }
}

pub(super) fn away(messages: &[Message]) -> Vec<Result<(), PublishError>> {
    let away = messages.iter().map(|_| PublishError::unavailable("away"));
    away.map(Err).collect()
}

/// A second destination, which only remembers what it was sent.
struct Mirror {
    ledger: Arc<Ledger>,
    outages: Outages,
    trouble: Arc<Trouble>,
}

impl Mirror {
    /// Takes what it is fit to take; at times only a part of it.
    fn take(
        ledger: &Ledger,
        trouble: &Trouble,
        messages: &[Message],
    ) -> Vec<Result<(), PublishError>> {
        let partial = trouble.strikes(trouble.rates().partial);
        let mut held_back: Vec<&str> = Vec::new();
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            let key = message.ordering_key.as_deref();
            let result = if key.is_some_and(|key| held_back.contains(&key)) {
                Err(PublishError::HeldBack)
            } else if partial && trouble.below(3) == 0 {
                ledger.write(|books, _| books.refused(message.id));
                Err(PublishError::failed("a fault on purpose"))
            } else {
                ledger.write(|books, now| books.mirrored(now, message));
                Ok(())
            };
            if result.is_err() {
                held_back.extend(key);
            }
            results.push(result);
        }
        results
    }
}

#[async_trait]
impl Publisher for Mirror {
    fn name(&self) -> &'static str {
        "mirror"
    }

    fn ordering(&self) -> Ordering {
        Ordering::Commit
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        if self.trouble.is_on() && self.outages.is_away() {
            return away(messages);
        }
        let near = async { Self::take(&self.ledger, &self.trouble, messages) };
        let far = || {
            let (ledger, trouble) = (Arc::clone(&self.ledger), Arc::clone(&self.trouble));
            let messages = messages.to_vec();
            async move { Self::take(&ledger, &trouble, &messages) }.boxed()
        };
        // Where the answer is lost, who has what is not known.
        let answer = self.trouble.call("mirror", near, far).await;
        answer.unwrap_or_else(|_| away(messages))
    }
}

/// A delivery log in memory whose calls go wrong.
struct SimLog {
    inner: Arc<MemoryDeliveryLog>,
    trouble: Arc<Trouble>,
}

#[async_trait]
impl DeliveryLog for SimLog {
    async fn delivered(&self, ids: &[MessageId], destination: &str) -> Result<Vec<bool>> {
        let far = || {
            let (inner, ids) = (Arc::clone(&self.inner), ids.to_vec());
            let destination = destination.to_owned();
            async move { inner.delivered(&ids, &destination).await }.boxed()
        };
        let near = self.inner.delivered(ids, destination);
        self.trouble.call("look up", near, far).await?
    }

    async fn record(&self, ids: &[MessageId], destination: &str, now: Timestamp) -> Result<()> {
        let far = || {
            let (inner, ids) = (Arc::clone(&self.inner), ids.to_vec());
            let destination = destination.to_owned();
            async move { inner.record(&ids, &destination, now).await }.boxed()
        };
        let near = self.inner.record(ids, destination, now);
        self.trouble.call("record", near, far).await?
    }

    async fn purge(&self, before: Timestamp, max: usize) -> Result<u64> {
        self.inner.purge(before, max).await
    }
}
