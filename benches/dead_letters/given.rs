use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox::PublishError;
use outbox::dlq::{
    DlqHeap, DlqProcessor, DlqProcessorConfig, Filter, Operator, Quarantine, RedriveConfig,
};
use outbox::message::{Message, NewMessage};
use outbox::policy::{Backoff, RetryPolicy};
use outbox::ports::{Outbox, Publisher};
use outbox::relay::{Relay, RelayConfig};
use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteDlqHeap, SqliteQuarantine, SqliteStore};
use outbox::status::Ordering;
use outbox::time::{Clock, SystemClock};
use tokio::time::sleep;

use crate::scene::{message, outbox};

/// The topic of what cannot be published.
const POISON: &str = "poison";
const BATCH: usize = 500;

/// What works on the dead letters of a file.
pub(crate) struct Dead {
    pub(crate) heap: Arc<dyn DlqHeap>,
    pub(crate) quarantine: Arc<dyn Quarantine>,
    pub(crate) processor: DlqProcessor,
    pub(crate) operator: Operator,
}

impl Dead {
    /// All settings are the defaults, but that one failure is enough.
    pub(crate) fn letters(store: &SqliteStore) -> Self {
        let heap: Arc<dyn DlqHeap> = Arc::new(SqliteDlqHeap::on(store));
        let quarantine: Arc<dyn Quarantine> = Arc::new(SqliteQuarantine::on(store));
        let config = DlqProcessorConfig {
            threshold: 1,
            ..DlqProcessorConfig::default()
        };
        let processor = DlqProcessor::new(Arc::clone(&heap), Arc::clone(&quarantine), config);
        Self {
            processor: processor.unwrap(),
            operator: Operator::new(Arc::clone(&quarantine), "bench"),
            heap,
            quarantine,
        }
    }

    /// Moves all that failed into quarantine: drain, quarantine and confirm, batch by batch.
    pub(crate) async fn quarantine_all(&self) -> u64 {
        let mut moved = 0;
        loop {
            let pass = self.processor.run_once().await.unwrap();
            if pass.quarantined == 0 {
                return moved;
            }
            moved += pass.quarantined;
        }
    }

    /// Sends all back, batch by batch, at no more than `rate` a second.
    pub(crate) async fn redrive_all(&self, rate: Option<u32>, shutdown: &Shutdown) -> u64 {
        let config = RedriveConfig {
            rate,
            ..RedriveConfig::default()
        };
        let all = Filter::default();
        let redrive = self.operator.redrive(&all, &config, shutdown);
        let summary = redrive.await.unwrap();
        assert_eq!(summary.refused, 0);
        summary.redriven
    }

    /// Waits until so many messages have been counted as failing.
    async fn until_counted(&self, count: usize) {
        while self.heap.stats(SystemClock.now()).await.unwrap().entries < count as u64 {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A destination that takes nothing, each message with an error of its own.
struct Refusing;

#[async_trait]
impl Publisher for Refusing {
    fn name(&self) -> &'static str {
        "refusing"
    }
    fn ordering(&self) -> Ordering {
        Ordering::Commit
    }
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let failed = |message: &Message| {
            let text = format!("no place for order '{}'", message.id);
            Err(PublishError::Failed(text.into()))
        };
        messages.iter().map(failed).collect()
    }
}

/// Puts `count` messages into the outbox that have failed once, been counted, and are due in an hour.
pub(crate) async fn failed(store: &SqliteStore, dead: &Dead, count: usize, payload: usize) {
    let outbox = outbox(store).await;
    let poison: Vec<NewMessage> = (0..BATCH).map(|number| poison(number, payload)).collect();
    for _ in 0..count / BATCH {
        outbox.append(&poison).await.unwrap();
    }
    let hour = Duration::from_secs(3_600);
    let config = RelayConfig {
        retry: RetryPolicy {
            backoff: Backoff {
                base: hour,
                cap: hour,
            },
            ..RetryPolicy::default()
        },
        ..RelayConfig::default()
    };
    let relay = Relay::new(Arc::new(outbox), Arc::new(Refusing), config).unwrap();
    let relay = relay.hook(Arc::new(dead.processor.recorder()));
    let shutdown = Shutdown::new();
    let until_counted = async {
        dead.until_counted(count).await;
        shutdown.trigger();
    };
    let (run, ()) = tokio::join!(relay.run(&shutdown), until_counted);
    run.unwrap();
}

fn poison(number: usize, payload: usize) -> NewMessage {
    let mut poison = message(number);
    POISON.clone_into(&mut poison.topic);
    if payload > poison.payload.len() {
        poison.payload = format!("\"{}\"", "x".repeat(payload - 2)).into();
    }
    poison
}
