use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outbox::PublishError;
use outbox::dlq::FailureRecorder;
use outbox::id::MessageId;
use outbox::message::{Message, NewMessage};
use outbox::policy::{Backoff, RetryPolicy};
use outbox::ports::{Flush, Outbox, Publisher};
use outbox::relay::{Relay, RelayConfig};
use outbox::sqlite::{SqliteDlqHeap, SqliteOptions, SqliteOutbox, SqliteStore};
use outbox::status::Ordering;
use tokio::time::Instant;

use super::trial::{Dress, Trial};
use crate::Scale;
use crate::scene::{fresh, message, remove, runtime};

/// Append to an outbox, then relay to a publisher that does nothing.
#[derive(Clone)]
pub(crate) struct Relayed {
    pub(crate) count: usize,
    /// How many are appended in a transaction, and the most that the relay claims at once.
    pub(crate) batch: usize,
    pub(crate) options: fn(SqliteOptions) -> SqliteOptions,
    /// What is changed in each message.
    pub(crate) dress: Dress,
    /// Whether failures are counted for dead letters.
    pub(crate) is_recorded: bool,
    /// One of so many fails at its first attempt; none where it is 0.
    pub(crate) fails: usize,
}

impl Relayed {
    /// All settings as they are by default.
    pub(crate) fn by_default(count: usize) -> Self {
        Self {
            count,
            batch: 500,
            options: |options| options,
            dress: |_, message| message,
            is_recorded: false,
            fails: 0,
        }
    }

    pub(crate) fn messages(&self) -> Vec<NewMessage> {
        let made = |number| (self.dress)(number, message(number));
        (0..self.count).map(made).collect()
    }

    fn relay(&self, store: &SqliteStore) -> Relay {
        let soon = Duration::from_millis(1);
        let backoff = Backoff {
            base: soon,
            cap: soon,
        };
        let config = RelayConfig {
            batch_ceiling: self.batch.max(16),
            retry: RetryPolicy {
                backoff,
                ..RetryPolicy::default()
            },
            ..RelayConfig::default()
        };
        let outbox = Arc::new(SqliteOutbox::on(store));
        let relay = Relay::new(outbox, Arc::new(Failing::one_of(self.fails)), config).unwrap();
        match self.is_recorded {
            true => relay.hook(Arc::new(FailureRecorder::new(Arc::new(SqliteDlqHeap::on(
                store,
            ))))),
            false => relay,
        }
    }
}

impl Trial for Relayed {
    const HALVES: [&str; 2] = ["append", "relay"];

    fn rates(&self, scale: &Scale) -> [f64; 2] {
        let path = fresh(scale, "relayed");
        let messages = self.messages();
        let times = runtime().block_on(async {
            let options = SqliteOptions::new(&path).entropy(scale.entropy());
            let store = SqliteStore::open_with((self.options)(options));
            let store = store.await.unwrap();
            let outbox = SqliteOutbox::on(&store);
            let started = Instant::now();
            for batch in messages.chunks(self.batch) {
                outbox.append(batch).await.unwrap();
            }
            let appended = started.elapsed();
            let relay = self.relay(&store);
            let started = Instant::now();
            let report = relay.flush().await.unwrap();
            assert_eq!(report.tally.done, self.count as u64);
            [appended, started.elapsed()]
        });
        remove(&path);
        times.map(|time| self.count as f64 / time.as_secs_f64())
    }
}

/// A publisher that has everything at once, but fails one of so many at its first attempt.
struct Failing {
    one_of: usize,
    failed: Mutex<HashSet<MessageId>>,
}

impl Failing {
    fn one_of(one_of: usize) -> Self {
        let failed = Mutex::default();
        Self { one_of, failed }
    }

    fn publish_one(&self, message: &Message) -> Result<(), PublishError> {
        let is_one = self.one_of > 0 && message.sequence.0.is_multiple_of(self.one_of as u64);
        if is_one && self.failed.lock().unwrap().insert(message.id) {
            return Err(PublishError::Failed("at its first attempt".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl Publisher for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }
    fn ordering(&self) -> Ordering {
        Ordering::Commit
    }
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        messages.iter().map(|m| self.publish_one(m)).collect()
    }
}
