use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::PublishError;
use outbox_core::error::{BoxError, Result};
use outbox_core::message::Message;
use outbox_core::ports::{Publisher, Replay};
use outbox_core::status::Ordering;

use super::config::RedisPublisherConfig;
use super::loss::{Cause, replay_behind};
use super::send::{Sent, StreamKeys, look, send};
use crate::batch::first_batch;
use crate::error::{At, Failed, Fault, unavailable};
use crate::store::RedisStore;

/// What accepts whatever the server has.
const ACCEPT: &str = "0-0";

/// How long messages wait that are claimed anew because others are replayed before them.
const AFTER_REPLAY: Duration = Duration::from_millis(10);

/// Publishes an outbox to a Redis stream, in order, each message once within the deduplication
/// window.
///
/// A batch goes by one script, which takes all of it or, where the stream is full, its beginning. It
/// refuses relays that are stale by their epoch, and finds out when the server has lost entries that
/// it had acknowledged: by its run id, by the stream, and by the last entry. That is logged as an
/// error and counted ([`RedisPublisher::losses`]); with [`RedisPublisher::replaying`], what is
/// retained of it is published again. Batches go one after the other, however many callers there
/// are.
///
/// ```no_run
/// # async fn example(outbox: std::sync::Arc<dyn outbox_core::ports::Replay>) -> outbox_core::Result<()> {
/// use outbox_redis::{RedisPublisher, RedisPublisherConfig, RedisStore};
///
/// let store = RedisStore::open("redis://127.0.0.1").await?;
/// let config = RedisPublisherConfig::named("tasks");
/// let publisher = RedisPublisher::new(&store, config)?.replaying(outbox);
/// # Ok(()) }
/// ```
pub struct RedisPublisher {
    store: RedisStore,
    config: RedisPublisherConfig,
    keys: StreamKeys,
    replay: Option<Arc<dyn Replay>>,
    /// The last entry that the server has acknowledged; empty before the first.
    known: Mutex<String>,
    losses: AtomicU64,
    /// Held by who sends: the parts of two batches would come between each other.
    turn: tokio::sync::Mutex<()>,
}

/// Why a stream takes nothing.
#[derive(Debug, thiserror::Error)]
enum Hindrance {
    #[error("stream {stream} is full: it holds its {high_water} entries")]
    Full { stream: String, high_water: u64 },
    #[error("stream {stream} has lost entries; {replayed} messages are published again first")]
    Replaying { stream: String, replayed: u64 },
    #[error("stream {stream} has lost entries, and they cannot be published again: {error}")]
    NotReplayed { stream: String, error: BoxError },
    #[error(
        "stream {stream} has an entry {last} of somebody else; entry ids that are places in an \
         outbox need a stream of their own"
    )]
    Foreign { stream: String, last: String },
    #[error(
        "place {sequence} of outbox {origin} was published with an older message: the outbox was \
         restored from a backup; give it another origin and stream"
    )]
    Reused { origin: String, sequence: u64 },
}

impl RedisPublisher {
    /// A publisher on an open store.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Config`] with every setting that cannot be used.
    pub fn new(store: &RedisStore, config: RedisPublisherConfig) -> Result<Self> {
        config.check()?;
        let keys = store.keys(&config.stream);
        Ok(Self {
            keys: StreamKeys {
                stream: keys.part("stream"),
                origin: keys.part(&format!("origin:{}", config.origin)),
                published: match config.ids {
                    super::EntryIds::Server => keys.part("seen"),
                    super::EntryIds::Sequence => keys.part(&format!("places:{}:", config.origin)),
                },
            },
            store: store.clone(),
            config,
            replay: None,
            known: Mutex::default(),
            losses: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// Publishes again what `outbox` retains of what the server has lost; it must be the outbox that
    /// messages come from, and one that keeps them. A server that knows nothing of this origin counts
    /// as one that has lost all of it: what an outbox is to keep to itself when it moves to a new
    /// server on purpose, a publisher without this sends first.
    #[must_use]
    pub fn replaying(mut self, outbox: Arc<dyn Replay>) -> Self {
        self.replay = Some(outbox);
        self
    }

    /// How often it was found that the server has lost entries which it had acknowledged.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.losses.load(Relaxed)
    }

    /// Asks the server, without sending anything, whether it has lost what it had acknowledged, and
    /// has that published again as [`RedisPublisher::replaying`] says; how many messages are. Every
    /// batch does so by itself: call it at the start, and every few seconds, where messages are rare.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the server or the outbox fails.
    ///
    /// # Cancel safety
    /// A dropped call may have had a part published again; the next one, or the next batch, does the
    /// rest.
    pub async fn find_losses(&self) -> Result<u64> {
        let _turn = self.turn.lock().await;
        let known = self.known();
        // Where a loss was just met, the next batch accepts what is there.
        if known == ACCEPT {
            return Ok(0);
        }
        let looked = async { look(self.store.link()?, &self.keys, &known).await };
        let found = looked.await.at("find losses", self.store.address())?;
        let Sent::Lost { cause, last } = found else {
            return Ok(0);
        };
        let replayed = self.repair(cause, &last).await?;
        // Otherwise nothing was lost, and what is lost from now on is to be found.
        if replayed > 0 || cause == Cause::Lost {
            self.learn(ACCEPT.to_owned());
        }
        Ok(replayed)
    }

    fn known(&self) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    fn learn(&self, last: String) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    /// Sends what goes into one script; how many of them, from the first on, are there.
    async fn send(&self, messages: &[Message]) -> Result<(usize, Option<PublishError>), Fault> {
        let link = self.store.link()?;
        let mut known = self.known();
        loop {
            let batch = (messages, known.as_str());
            match send(link, &self.config, &self.keys, batch).await? {
                Sent::Done { fit, last } => {
                    self.learn(last);
                    let full = (fit < messages.len()).then(|| self.full());
                    return Ok((fit, full));
                }
                Sent::Stale { seen } => return Ok((0, Some(PublishError::Fenced { seen }))),
                Sent::Lost { cause, last } => {
                    if let Some(error) = self.repair_first(cause, &last).await {
                        return Ok((0, Some(error)));
                    }
                }
                Sent::Foreign { last } => {
                    let stream = self.config.stream.clone();
                    return Ok((0, Some(hindered(Hindrance::Foreign { stream, last }))));
                }
                Sent::Reused { sequence } => {
                    let origin = self.config.origin.clone();
                    return Ok((0, Some(hindered(Hindrance::Reused { origin, sequence }))));
                }
            }
            ACCEPT.clone_into(&mut known);
        }
    }

    /// Repairs what may be lost; `None` where a batch need not wait for that.
    async fn repair_first(&self, cause: Cause, last: &str) -> Option<PublishError> {
        let stream = self.config.stream.clone();
        match self.repair(cause, last).await {
            Ok(0) => None,
            Ok(replayed) => {
                self.learn(ACCEPT.to_owned());
                // The lease of this batch went to the replay: it is claimed anew, behind it.
                Some(PublishError::Unavailable {
                    retry_after: Some(AFTER_REPLAY),
                    source: Hindrance::Replaying { stream, replayed }.into(),
                })
            }
            Err(error) => {
                let error = error.into();
                Some(hindered(Hindrance::NotReplayed { stream, error }))
            }
        }
    }

    /// Replays what may be lost; how many messages, none where there is nothing to wait for.
    async fn repair(&self, cause: Cause, last: &str) -> Result<u64> {
        let replayed = match &self.replay {
            Some(replay) => replay.replay(&replay_behind(&self.config, last)).await?,
            None => 0,
        };
        let (server, stream) = (self.store.address(), &self.config.stream);
        // Once, however often the outbox had to be asked.
        if cause == Cause::Lost {
            self.losses.fetch_add(1, Relaxed);
            let known = self.known();
            tracing::error!(
                server,
                stream,
                known,
                found = last,
                "the server has lost entries that it had acknowledged"
            );
        }
        if replayed > 0 {
            tracing::warn!(
                server,
                stream,
                ?cause,
                replayed,
                "published again after a loss"
            );
            // What was published before, the server knew once.
            self.losses
                .fetch_add(u64::from(cause == Cause::Unmarked), Relaxed);
        }
        Ok(replayed)
    }

    fn full(&self) -> PublishError {
        PublishError::full(Hindrance::Full {
            stream: self.config.stream.clone(),
            high_water: self.config.high_water,
        })
    }
}

fn hindered(hindrance: Hindrance) -> PublishError {
    PublishError::unavailable(hindrance)
}

/// The answers to `count` messages that were not sent: all of them for the same reason.
fn not_sent(error: PublishError, count: usize) -> Vec<Result<(), PublishError>> {
    let (retry_after, source) = match error {
        PublishError::Unavailable {
            retry_after,
            source,
        } => (retry_after, Arc::<dyn Error + Send + Sync>::from(source)),
        PublishError::Fenced { seen } => {
            let each = || Err(PublishError::Fenced { seen });
            return std::iter::repeat_with(each).take(count).collect();
        }
        other => (None, Arc::from(BoxError::from(other))),
    };
    let each = || {
        Err(PublishError::Unavailable {
            retry_after,
            source: Box::new(Arc::clone(&source)),
        })
    };
    std::iter::repeat_with(each).take(count).collect()
}

#[async_trait]
impl Publisher for RedisPublisher {
    fn name(&self) -> &str {
        &self.config.stream
    }

    fn ordering(&self) -> Ordering {
        Ordering::Commit
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let _turn = self.turn.lock().await;
        let mut answers = Vec::with_capacity(messages.len());
        while answers.len() < messages.len() {
            let rest = &messages[answers.len()..];
            let left = rest.len();
            match self.send(first_batch(rest)).await {
                Ok((fit, None)) => answers.extend((0..fit).map(|_| Ok(()))),
                Ok((fit, Some(error))) => {
                    answers.extend((0..fit).map(|_| Ok(())));
                    answers.extend(not_sent(error, left - fit));
                    break;
                }
                Err(fault) => {
                    let failed = Failed::new("publish", self.store.address(), fault);
                    answers.extend(unavailable(failed, left));
                    break;
                }
            }
        }
        answers
    }
}
