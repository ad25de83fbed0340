use outbox::id::{Entropy, MessageId};
use outbox::message::Message;
use outbox::redis::{RedisQueue, RedisQueueConfig, RedisStore};
use outbox::time::{Clock, SystemClock};
use outbox_redis_harness::RedisServer;
use tokio::runtime::Runtime;

use super::wire::{Answer, Wire};
use crate::scene::{message, runtime};

pub(crate) const BATCH: usize = 500;
pub(crate) const NAME: &str = "bench";
pub(crate) const STREAM: &[u8] = b"outbox:{bench}:stream";
pub(crate) const GROUP: &[u8] = b"workers";

/// A server without persistence, and a runtime to work with it.
pub(crate) struct Server {
    pub(crate) runtime: Runtime,
    server: RedisServer,
}

impl Server {
    pub(crate) fn start() -> Self {
        let runtime = runtime();
        let server = runtime.block_on(RedisServer::start(&[])).unwrap();
        Self { runtime, server }
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire::connect(self.server.port())
    }

    /// Empties the server, as if nothing had ever been in it.
    pub(crate) fn empty(&self) {
        self.wire().command(&[b"FLUSHALL"]);
    }

    pub(crate) fn store(&self) -> RedisStore {
        let url = self.server.url();
        self.runtime.block_on(RedisStore::open(url)).unwrap()
    }

    pub(crate) fn queue(&self, store: &RedisStore) -> RedisQueue {
        let config = RedisQueueConfig {
            high_water: 10_000_000,
            ..RedisQueueConfig::named(NAME)
        };
        self.runtime
            .block_on(RedisQueue::open(store, config))
            .unwrap()
    }

    /// A section of `INFO`.
    pub(crate) fn section(&self, section: &str) -> String {
        let Answer::Text(text) = self.wire().command(&[b"INFO", section.as_bytes()]) else {
            panic!("no text");
        };
        String::from_utf8(text).unwrap()
    }
}

/// So many messages as a relay has them.
pub(crate) fn batches(count: usize) -> Vec<Vec<Message>> {
    let entropy = Entropy::from_system();
    let now = SystemClock.now();
    let all: Vec<_> = (0..count)
        .map(|number| Message::appended(&message(number), MessageId::new(now, &entropy), now))
        .collect();
    all.chunks(BATCH).map(<[Message]>::to_vec).collect()
}

/// The bytes that an entry of ours has.
pub(crate) fn frame(message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    outbox_core::packed::frame::write(message, &mut out);
    out
}
