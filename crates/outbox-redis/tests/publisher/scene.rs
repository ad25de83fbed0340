use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use outbox_core::PublishError;
use outbox_core::id::{Entropy, MessageId};
use outbox_core::lease::{Epoch, Sequence};
use outbox_core::memory::{MemoryOutbox, MemoryOutboxConfig};
use outbox_core::message::{Message, NewMessage};
use outbox_core::packed::frame;
use outbox_core::ports::{Flush, Outbox, Publisher};
use outbox_core::relay::{Relay, RelayConfig};
use outbox_core::time::Timestamp;
use outbox_redis::{EntryIds, RedisOptions, RedisPublisher, RedisPublisherConfig, RedisStore};
use outbox_redis_harness::{Answer, BoxError, RedisServer, Shared, Wire};

pub(crate) type Tested = Result<(), BoxError>;

/// Both ways of calling entries.
pub(crate) const BOTH: [EntryIds; 2] = [EntryIds::Server, EntryIds::Sequence];

/// A stream of its own on a server.
pub(crate) struct Scene {
    /// The server that is kept alive by it, where it was started for it.
    _shared: Option<Shared>,
    url: String,
    prefix: String,
    pub(crate) config: RedisPublisherConfig,
}

impl Scene {
    /// On a server that other tests use, too.
    pub(crate) async fn shared(ids: EntryIds) -> Result<Self, BoxError> {
        let shared = Shared::start().await?;
        let url = shared.url().to_owned();
        Ok(Self {
            _shared: Some(shared),
            ..Self::at(url, ids)
        })
    }

    /// On a server of the test's own.
    pub(crate) fn on(server: &RedisServer, ids: EntryIds) -> Self {
        Self::at(server.url(), ids)
    }

    pub(crate) fn at(url: String, ids: EntryIds) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let chance = Entropy::from_system().next_u64();
        Self {
            _shared: None,
            url,
            prefix: format!("test-{chance:x}-{number}"),
            config: RedisPublisherConfig {
                ids,
                ..RedisPublisherConfig::named("s")
            },
        }
    }

    pub(crate) fn key(&self, part: &str) -> String {
        format!("{}:{{s}}:{part}", self.prefix)
    }

    pub(crate) async fn publisher(&self) -> Result<RedisPublisher, BoxError> {
        self.publisher_at(self.url.clone()).await
    }

    pub(crate) async fn publisher_at(&self, url: String) -> Result<RedisPublisher, BoxError> {
        let options = RedisOptions::new(url)
            .prefix(&self.prefix)
            .command_timeout(Duration::from_millis(500))
            .reconnect(Duration::from_millis(10), Duration::from_millis(50));
        let store = RedisStore::open_with(options).await?;
        Ok(RedisPublisher::new(&store, self.config.clone())?)
    }

    pub(crate) async fn wire(&self) -> Result<Wire, BoxError> {
        Wire::to(&self.url).await
    }

    /// Entry ids and messages of the stream, in its order.
    pub(crate) async fn entries(&self) -> Result<Vec<(String, Message)>, BoxError> {
        let key = self.key("stream");
        let mut wire = self.wire().await?;
        let all = wire.command(&["XRANGE", &key, "-", "+"]).await?;
        all.list().into_iter().map(entry).collect()
    }

    /// The sequences of the stream's messages, in its order.
    pub(crate) async fn sequences(&self) -> Result<Vec<u64>, BoxError> {
        let entries = self.entries().await?;
        Ok(entries.iter().map(|(_, m)| m.sequence.0).collect())
    }
}

fn entry(entry: Answer) -> Result<(String, Message), BoxError> {
    let Answer::List(mut parts) = entry else {
        return Err("no entry".into());
    };
    let (Some(Answer::List(mut fields)), Some(Answer::Text(id))) = (parts.pop(), parts.pop())
    else {
        return Err("no entry".into());
    };
    let Some(Answer::Text(value)) = fields.pop() else {
        return Err("no value".into());
    };
    Ok((String::from_utf8(id)?, frame::read(&Bytes::from(value))?))
}

/// The message at place `number` of an outbox, claimed under `epoch`.
pub(crate) fn message(number: u64, epoch: u64) -> Message {
    let new = NewMessage::new("t", number.to_string()).header("h", "v");
    let mut id = [7; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    let created = Timestamp::from_micros(1_800_000_000_000_000 + number as i64);
    Message {
        sequence: Sequence(number),
        epoch: Epoch(epoch),
        ..Message::appended(&new, MessageId::from_bytes(id), created)
    }
}

pub(crate) fn messages(numbers: impl IntoIterator<Item = u64>) -> Vec<Message> {
    numbers
        .into_iter()
        .map(|number| message(number, 1))
        .collect()
}

/// What a publisher answers, in words.
pub(crate) async fn answers(publisher: &RedisPublisher, messages: &[Message]) -> Vec<&'static str> {
    let answers = publisher.publish(messages).await;
    answers.iter().map(word).collect()
}

pub(crate) fn word(answer: &Result<(), PublishError>) -> &'static str {
    answer.as_ref().map_or_else(PublishError::kind, |()| "ok")
}

/// An outbox that keeps what it has published.
pub(crate) fn outbox() -> Arc<MemoryOutbox> {
    Arc::new(MemoryOutbox::new(MemoryOutboxConfig {
        keep_published: true,
        ..MemoryOutboxConfig::default()
    }))
}

pub(crate) async fn append(outbox: &MemoryOutbox, count: usize) -> Tested {
    let one = |number| NewMessage::new("t", format!("{number}")).ordering_key("k");
    let all: Vec<_> = (0..count).map(one).collect();
    outbox.append(&all).await?;
    Ok(())
}

/// Relays until the outbox is empty.
pub(crate) async fn relay(outbox: &Arc<MemoryOutbox>, publisher: &Arc<RedisPublisher>) -> Tested {
    let mut config = RelayConfig::default();
    config.breaker.reset_timeout = Duration::from_millis(20);
    config.breaker.max_reset_timeout = Duration::from_millis(100);
    let relay = Relay::new(outbox.clone(), publisher.clone(), config)?;
    let report = relay.flush().await?;
    assert_eq!((report.unsent, report.tally.retried), (0, 0));
    Ok(())
}

/// Whether the stream holds exactly the places up to `last`, in order.
pub(crate) async fn assert_whole(scene: &Scene, last: u64) -> Tested {
    let found = scene.sequences().await?;
    let ids = scene.config.ids;
    assert_eq!(found.len() as u64, last, "{ids:?}");
    let wrong = found
        .iter()
        .zip(1..)
        .find(|(place, expected)| *place != expected);
    assert_eq!(wrong, None, "{ids:?}");
    Ok(())
}
