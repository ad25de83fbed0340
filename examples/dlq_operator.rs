//! An operator's story: a bad release and a bad customer fill the quarantine; it is counted by cause,
//! looked into, mended, tried with ten, and sent back in order.
//!
//! `cargo run --example dlq_operator --features sqlite,dlq`
#![allow(clippy::print_stdout, reason = "a program talks")]

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use outbox::PublishError;
use outbox::dlq::{
    CountRequest, DlqProcessor, DlqProcessorConfig, Filter, Fingerprint, Operator, Page,
    Quarantine, RedriveConfig,
};
use outbox::message::{Kind, Message, NewMessage};
use outbox::policy::{Backoff, RetryPolicy};
use outbox::ports::{Flush, Outbox, Publisher};
use outbox::relay::{Relay, RelayConfig};
use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteDlqHeap, SqliteOutbox, SqliteQuarantine, SqliteStore};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The shop's warehouse: away at first, then with a bug, and with one customer that it cannot know.
#[derive(Default)]
struct Warehouse {
    mended: AtomicBool,
    calls: Mutex<u32>,
    received: Mutex<Vec<Message>>,
}

impl Warehouse {
    fn judge(&self, message: &Message) -> Result<(), PublishError> {
        let id = message.id;
        if message.kind.name == "order.gift" {
            return Err(PublishError::refused(format!(
                "order {id}: no such customer"
            )));
        }
        if message.kind.name == "order.bulk" && !self.mended.load(Ordering::SeqCst) {
            return Err(PublishError::failed(format!("order {id}: pallet is null")));
        }
        let received = self.received.lock();
        received
            .unwrap_or_else(PoisonError::into_inner)
            .push(message.clone());
        Ok(())
    }
}

#[async_trait]
impl Publisher for Warehouse {
    fn name(&self) -> &'static str {
        "warehouse"
    }

    fn ordering(&self) -> outbox::status::Ordering {
        outbox::status::Ordering::PerKey
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let away = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            *calls += 1;
            *calls <= 2
        };
        let judge = |message: &Message| match away {
            true => Err(PublishError::unavailable("connection refused")),
            false => self.judge(message),
        };
        messages.iter().map(judge).collect()
    }
}

/// The parts of the story.
struct Story {
    outbox: Arc<SqliteOutbox>,
    quarantine: Arc<SqliteQuarantine>,
    operator: Operator,
    warehouse: Arc<Warehouse>,
    relay: Relay,
    processor: DlqProcessor,
}

impl Story {
    fn on(store: &SqliteStore) -> Outcome<Self> {
        let outbox = Arc::new(SqliteOutbox::on(store));
        let quarantine = Arc::new(SqliteQuarantine::on(store));
        let warehouse = Arc::new(Warehouse::default());
        let config = DlqProcessorConfig {
            threshold: 2,
            ..DlqProcessorConfig::default()
        };
        let heap = Arc::new(SqliteDlqHeap::on(store));
        let processor = DlqProcessor::new(heap, quarantine.clone(), config)?;
        let relay = Relay::new(outbox.clone(), warehouse.clone(), relay_config())?;
        Ok(Self {
            operator: Operator::new(quarantine.clone(), "ada"),
            relay: relay.hook(Arc::new(processor.recorder())),
            outbox,
            quarantine,
            warehouse,
            processor,
        })
    }

    /// Relays until what can be sent is sent and what cannot be is in quarantine.
    async fn relay(&self) -> Outcome<()> {
        let shutdown = Shutdown::new();
        let settle = async {
            let flushed = self.relay.flush().await;
            shutdown.trigger();
            flushed
        };
        let (flushed, moved) = tokio::join!(settle, self.processor.run(&shutdown));
        moved?;
        match flushed?.unsent {
            0 => Ok(()),
            left => Err(format!("{left} messages are still unsent").into()),
        }
    }

    async fn count(&self) -> Outcome<Vec<Fingerprint>> {
        let request = CountRequest {
            filter: Filter::default(),
            max: 10,
        };
        let counts = self.quarantine.count(&request).await?;
        println!("in quarantine: {}", counts.total);
        for group in &counts.groups {
            let kind = group.kind.as_deref().unwrap_or("unreadable");
            println!(
                "  {:>3} x {} of kind {kind}",
                group.letters, group.error_kind
            );
        }
        Ok(counts
            .groups
            .iter()
            .map(|group| group.fingerprint)
            .collect())
    }

    fn received(&self) -> Vec<Message> {
        let received = self.warehouse.received.lock();
        received.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Tries again soon, and gives up late: here the processor decides.
fn relay_config() -> RelayConfig {
    RelayConfig {
        retry: RetryPolicy {
            max_attempts: 50,
            backoff: Backoff {
                base: Duration::from_millis(200),
                cap: Duration::from_millis(400),
            },
        },
        ..RelayConfig::default()
    }
}

/// 60 orders of 6 customers: each tenth is a gift for a customer whom the warehouse does not know, and
/// every other one is a bulk order.
fn orders() -> Vec<NewMessage> {
    let order = |number: u32| {
        let kind = match number % 10 {
            9 => "order.gift",
            even if even % 2 == 0 => "order.bulk",
            _ => "order.plain",
        };
        let new = NewMessage::new("orders", number.to_string()).kind(Kind::new(kind));
        new.ordering_key(format!("customer {}", number % 6))
    };
    (0..60).map(order).collect()
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let store = SqliteStore::open(folder.path().join("shop.db")).await?;
    let story = Story::on(&store)?;
    story.outbox.append(&orders()).await?;

    println!("-- the warehouse is away for a while, then back, with a bug");
    story.relay().await?;
    println!("delivered: {}", story.received().len());

    println!("-- quarantine by cause");
    let causes = story.count().await?;

    println!("-- a look at one of the greatest group");
    let bulk = Filter::alike(*causes.first().ok_or("a group")?);
    let listing = story.quarantine.list(&bulk, Page::first(1)).await?;
    let letter = listing.letters.first().ok_or("a letter")?;
    let error = letter.error.rsplit(": ").next().unwrap_or_default();
    println!(
        "{}: {} attempts, last error: {error}",
        letter.place, letter.attempts
    );

    println!("-- the bug is mended; ten go first");
    story.warehouse.mended.store(true, Ordering::SeqCst);
    let shutdown = Shutdown::new();
    let canary = RedriveConfig {
        most: Some(10),
        reason: "canary".to_owned(),
        ..RedriveConfig::default()
    };
    let summary = story.operator.redrive(&bulk, &canary, &shutdown).await?;
    story.relay().await?;
    println!(
        "redriven: {}, delivered: {}",
        summary.redriven,
        story.received().len()
    );

    println!("-- none came back; the rest follows, 500 a second");
    let rest = RedriveConfig {
        rate: Some(500),
        reason: "pallets are mended".to_owned(),
        ..RedriveConfig::default()
    };
    let summary = story.operator.redrive(&bulk, &rest, &shutdown).await?;
    story.relay().await?;
    println!(
        "redriven: {}, delivered: {}",
        summary.redriven,
        story.received().len()
    );

    println!("-- the gifts are hopeless");
    let discarded = story
        .operator
        .discard(&Filter::default(), "unknown customer")
        .await?;
    println!("discarded: {discarded}");
    story.count().await?;

    println!("-- what the audit says");
    for record in story.quarantine.audit(0, 10).await? {
        let (word, reason) = (record.kind.word(), &record.action.reason);
        println!("{} {word}: {} ({reason})", record.action.by, record.letters);
    }
    check(&story.received())
}

/// Every bulk order arrived, once, and those of a customer in their order.
fn check(received: &[Message]) -> Outcome<()> {
    let mut last: HashMap<&str, u64> = HashMap::new();
    let bulk = received
        .iter()
        .filter(|message| message.kind.name == "order.bulk");
    let mut count = 0;
    for message in bulk {
        let key = message.ordering_key.as_deref().unwrap_or_default();
        let before = last.insert(key, message.sequence.0);
        if before.is_some_and(|before| before >= message.sequence.0) {
            return Err(format!("{key}: order {} came too late", message.sequence).into());
        }
        count += 1;
    }
    println!("-- {count} bulk orders arrived, each customer's in order");
    Ok(())
}
