use std::collections::VecDeque;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, poll_immediate};
use outbox_core::PublishError;
use outbox_core::error::{BoxError, Result};
use outbox_core::message::Message;
use outbox_core::ports::{Publisher, Replay};
use outbox_core::status::Ordering;

use super::chain::{Chain, PartName, PartNumber, Turn};
use super::config::RedisPublisherConfig;
use super::send::{Part, Sent, StreamKeys, send};
use crate::batch::first_batch;
use crate::error::{Failed, Fault, unavailable};
use crate::link::Link;
use crate::store::RedisStore;

/// What accepts whatever the server has.
pub(super) const ACCEPT: &str = "0-0";

/// How many calls may be under way at once: while the server adds one batch, the next is packed and
/// sent, and the server never waits.
const DEPTH: usize = 2;

/// The most scripts of one call that are under way at once.
const PARTS: usize = 2;

/// Publishes an outbox to a Redis stream, in order, each message once within the deduplication
/// window.
///
/// A batch of up to 500 messages goes by one script, which takes all of it or, where the stream is
/// full, its beginning. It refuses relays that are stale by their epoch, and finds out when the server
/// has lost entries that it had acknowledged: by its run id, by the stream, and by the last entry. That
/// is logged as an error and counted ([`RedisPublisher::losses`]); with
/// [`RedisPublisher::replaying`], what is retained of it is published again. Batches stay in the order
/// in which their calls were made, however many callers there are: a script takes nothing where the
/// batch before it is on its way and does not arrive whole. Whoever makes several calls at once, and is
/// refused one, lets the others come back before he repeats it, as a relay does: what is begun meanwhile
/// is refused with them.
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
    pub(super) store: RedisStore,
    pub(super) config: RedisPublisherConfig,
    pub(super) keys: StreamKeys,
    pub(super) replay: Option<Arc<dyn Replay>>,
    known: Mutex<Known>,
    /// What was claimed under an epoch below this one was claimed before a replay.
    pub(super) first_epoch: AtomicU64,
    pub(super) losses: AtomicU64,
    pub(super) chain: Chain,
}

/// The last entry that the server has acknowledged; empty before the first.
#[derive(Default)]
struct Known {
    entry: String,
    /// The part that it was told with: answers may be heard in another order than they came in.
    part: PartNumber,
}

/// A batch on its way.
struct Sending<'a> {
    publisher: &'a RedisPublisher,
    link: &'a Link,
    /// Until everything is sent.
    turn: Option<Turn<'a>>,
    /// What is not sent yet.
    rest: &'a [Message],
    under_way: VecDeque<UnderWay<'a>>,
    /// How many messages are there.
    there: usize,
    /// Whether whatever the server has is accepted.
    accepting: bool,
}

/// A part that was sent.
struct UnderWay<'a> {
    number: PartNumber,
    /// How many messages are in it.
    count: usize,
    sent: BoxFuture<'a, Result<Sent, Fault>>,
    /// What came as soon as it was sent.
    answer: Option<Result<Sent, Fault>>,
}

impl Sending<'_> {
    /// Sends as many parts as may be under way, and ends the turn with the last one.
    async fn send_parts(&mut self) {
        let publisher = self.publisher;
        let known = if self.accepting {
            ACCEPT.to_owned()
        } else {
            publisher.known()
        };
        // The first part finds out what the server knows, which is its script, too: others would be
        // sent anew in another order.
        let alone = matches!(known.as_str(), "" | ACCEPT);
        let most = if alone { 1 } else { PARTS };
        while let Some(turn) = &mut self.turn
            && self.under_way.len() < most
            && !self.rest.is_empty()
        {
            let (messages, others) = self.rest.split_at(first_batch(self.rest).len());
            self.rest = others;
            let PartName {
                number,
                name,
                before,
            } = turn.next_part();
            let part = Part {
                messages,
                known: known.clone(),
                before,
                name,
            };
            let mut sent = send(self.link, &publisher.config, &publisher.keys, part).boxed();
            // It is on its way once it has been asked for, and nothing comes between.
            let answer = poll_immediate(&mut sent).await;
            self.under_way.push_back(UnderWay {
                number,
                count: messages.len(),
                sent,
                answer,
            });
        }
        let waits = alone && !self.under_way.is_empty();
        if self.rest.is_empty()
            && !waits
            && let Some(turn) = self.turn.take()
        {
            turn.complete();
        }
    }
}

/// Why a batch was not sent to its end.
enum Stop {
    Refused(PublishError),
    Failed(Fault),
    /// The rest is to be sent again, accepting what the server has.
    Again,
}

/// Why a stream takes nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Hindrance {
    #[error("what was sent to stream {stream} before has not arrived whole")]
    Apart { stream: String },
    #[error("stream {stream} is full: it holds its {high_water} entries")]
    Full { stream: String, high_water: u64 },
    #[error(
        "messages for stream {stream} were claimed before epoch {first}: what is published again goes \
         first"
    )]
    Outdated { stream: String, first: u64 },
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
            first_epoch: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            chain: Chain::new(),
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

    pub(super) fn known(&self) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry.clone()
    }

    pub(super) fn learn(&self, part: PartNumber, entry: String) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if part >= known.part {
            *known = Known { entry, part };
        }
    }

    /// Sends `messages`; how many of them, from the first on, are there, and why the others are not.
    async fn send(&self, messages: &[Message]) -> (usize, Option<Stop>) {
        let link = match self.store.link() {
            Ok(link) => link,
            Err(error) => return (0, Some(Stop::Failed(error))),
        };
        let mut call = self.chain.begin();
        let turn = call.turn().await;
        if let Some(error) = self.behind_a_replay(messages) {
            return (0, Some(Stop::Refused(error)));
        }
        let mut sending = Sending {
            publisher: self,
            link,
            turn: Some(turn),
            rest: messages,
            under_way: VecDeque::new(),
            there: 0,
            accepting: false,
        };
        loop {
            sending.send_parts().await;
            let Some(part) = sending.under_way.pop_front() else {
                return (sending.there, None);
            };
            let answer = match part.answer {
                Some(answer) => answer,
                None => part.sent.await,
            };
            let (fit, stop) = self.hear(part.number, part.count, answer).await;
            sending.there += fit;
            match stop {
                None => sending.accepting = false,
                Some(Stop::Again) => {
                    if let Some(error) = self.behind_a_replay(messages) {
                        return (sending.there, Some(Stop::Refused(error)));
                    }
                    // What followed it was refused as well.
                    sending.under_way.clear();
                    sending.rest = messages.get(sending.there..).unwrap_or_default();
                    sending.accepting = true;
                    match &mut sending.turn {
                        Some(turn) => turn.follow_nothing(),
                        None => sending.turn = Some(call.turn_again().await),
                    }
                }
                Some(stop) => return (sending.there, Some(stop)),
            }
        }
    }

    /// What the answer to a part of `count` messages means for them.
    async fn hear(
        &self,
        part: PartNumber,
        count: usize,
        answer: Result<Sent, Fault>,
    ) -> (usize, Option<Stop>) {
        let stream = self.config.stream.clone();
        let refusal = match answer {
            Err(fault) => return (0, Some(Stop::Failed(fault))),
            Ok(Sent::Done { fit, last }) => {
                self.learn(part, last);
                let full = (fit < count).then(|| Stop::Refused(self.full()));
                return (fit, full);
            }
            Ok(Sent::Lost { cause, last }) => {
                let error = self.repair_first(part, cause, &last).await;
                return (0, Some(error.map_or(Stop::Again, Stop::Refused)));
            }
            Ok(Sent::Stale { seen }) => PublishError::Fenced { seen },
            Ok(Sent::Apart) => hindered(Hindrance::Apart { stream }),
            Ok(Sent::Foreign { last }) => hindered(Hindrance::Foreign { stream, last }),
            Ok(Sent::Reused { sequence }) => {
                let origin = self.config.origin.clone();
                hindered(Hindrance::Reused { origin, sequence })
            }
        };
        (0, Some(Stop::Refused(refusal)))
    }

    fn full(&self) -> PublishError {
        PublishError::full(Hindrance::Full {
            stream: self.config.stream.clone(),
            high_water: self.config.high_water,
        })
    }
}

pub(super) fn hindered(hindrance: Hindrance) -> PublishError {
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

    fn pipeline_depth(&self) -> usize {
        DEPTH
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let (there, stop) = self.send(messages).await;
        let left = messages.len() - there;
        let mut answers = Vec::with_capacity(messages.len());
        answers.extend((0..there).map(|_| Ok(())));
        match stop {
            Some(Stop::Refused(error)) => answers.extend(not_sent(error, left)),
            Some(Stop::Failed(fault)) => {
                let failed = Failed::new("publish", self.store.address(), fault);
                answers.extend(unavailable(failed, left));
            }
            Some(Stop::Again) | None => {}
        }
        answers
    }
}
