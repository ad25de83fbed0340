//! This library in the comparison: its queues, embedded and in Redis, and its relay.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use outbox::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use outbox::delivery::Delivery;
use outbox::id::{Entropy, MessageId};
use outbox::message::{Message, MessageBody, NewMessage};
use outbox::ports::{Flush, Outbox, Publisher, Queue};
use outbox::redis::{
    RedisPublisher, RedisPublisherConfig, RedisQueue, RedisQueueConfig, RedisStore,
};
use outbox::relay::{Relay, RelayConfig};
use outbox::signal::Shutdown;
use outbox::sqlite::{
    SqliteOptions, SqliteOutbox, SqliteQueue, SqliteQueueConfig, SqliteStore, Synchronous,
};
use outbox::status::Ordering;
use outbox::time::{Clock, SystemClock};
use outbox::{HandlerError, PublishError};
use peers_task::{Durable, HEADERS, Order, Problem, Reading, TOPIC, Times, Work, all_came};
use serde::{Deserialize, Serialize};

fn main() -> ExitCode {
    peers_task::run(|order| async move {
        match order.work {
            Work::Queue => queue(&order).await,
            Work::Relay => relay(&order).await,
        }
    })
}

#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Body(Reading);

impl MessageBody for Body {
    const KIND: &'static str = "weather.reading";
}

fn message(reading: Reading) -> outbox::Result<NewMessage> {
    let message = NewMessage::json(TOPIC, &Body(reading))?;
    Ok(HEADERS.iter().fold(message, |message, (name, value)| {
        message.header(*name, *value)
    }))
}

async fn open(order: &Order) -> outbox::Result<SqliteStore> {
    let synchronous = match order.durable {
        Durable::Disk => Synchronous::Full,
        Durable::System => Synchronous::Normal,
    };
    let options = SqliteOptions::new(Path::new(&order.at)).synchronous(synchronous);
    SqliteStore::open_with(options).await
}

/// The queue in a file, or in Redis where that is the address.
async fn open_queue(order: &Order) -> outbox::Result<Arc<dyn Queue>> {
    if order.at.starts_with("redis://") {
        let store = RedisStore::open(&order.at).await?;
        let queue = RedisQueue::open(&store, RedisQueueConfig::named(TOPIC)).await?;
        return Ok(Arc::new(queue));
    }
    let queue = SqliteQueue::open(&open(order).await?, SqliteQueueConfig::named(TOPIC)).await?;
    Ok(Arc::new(queue))
}

/// From the queue to a handler that reads the task and does nothing.
async fn queue(order: &Order) -> Result<Times, Problem> {
    let queue = open_queue(order).await?;
    let worker = worker(Arc::clone(&queue))?;
    let mut times = Times::default();
    for wave in order.waves() {
        let started = Instant::now();
        push(&*queue, order, &wave).await?;
        let pushed = Instant::now();
        let report = worker.run_until_empty(&Shutdown::new()).await?;
        times.push += pushed - started;
        times.drain += pushed.elapsed();
        all_came(wave.len() as u64, report.tally.done)?;
    }
    Ok(times)
}

fn worker(queue: Arc<dyn Queue>) -> outbox::Result<Worker> {
    let config = WorkerConfig {
        concurrency: 500,
        prefetch: 500,
        ..WorkerConfig::default()
    };
    let handler = |delivery: Delivery| {
        let read = delivery.json::<Body>().map(drop);
        std::future::ready(read.map_err(HandlerError::reject))
    };
    Worker::new(
        queue,
        Consumer::new(handler, ConsumerConfig::default()),
        config,
    )
}

async fn push(queue: &dyn Queue, order: &Order, wave: &[u64]) -> Result<(), Problem> {
    let entropy = Entropy::from_system();
    for readings in order.batches(wave) {
        let now = SystemClock.now();
        let messages = readings
            .into_iter()
            .map(|reading| {
                let id = MessageId::new(now, &entropy);
                Ok(Message::appended(&message(reading)?, id, now))
            })
            .collect::<outbox::Result<Vec<_>>>()?;
        for result in queue.enqueue(&messages).await {
            result?;
        }
    }
    Ok(())
}

/// From the outbox to a publisher.
async fn relay(order: &Order) -> Result<Times, Problem> {
    let store = open(order).await?;
    let outbox = SqliteOutbox::on(&store);
    let relay = Relay::new(
        Arc::new(outbox.clone()),
        publisher(order).await?,
        RelayConfig::default(),
    )?;
    let mut times = Times::default();
    for wave in order.waves() {
        let started = Instant::now();
        for readings in order.batches(&wave) {
            let messages = readings
                .into_iter()
                .map(message)
                .collect::<outbox::Result<Vec<_>>>()?;
            outbox.append(&messages).await?;
        }
        let pushed = Instant::now();
        let report = relay.flush().await?;
        times.push += pushed - started;
        times.drain += pushed.elapsed();
        all_came(wave.len() as u64, report.tally.done)?;
    }
    Ok(times)
}

/// A stream of Redis where there is a broker; nowhere by default.
async fn publisher(order: &Order) -> outbox::Result<Arc<dyn Publisher>> {
    let Some(broker) = &order.broker else {
        return Ok(Arc::new(Nowhere));
    };
    let store = RedisStore::open(broker).await?;
    let publisher = RedisPublisher::new(&store, RedisPublisherConfig::named(TOPIC))?;
    Ok(Arc::new(publisher))
}

/// A publisher that has everything at once.
struct Nowhere;

#[async_trait]
impl Publisher for Nowhere {
    fn name(&self) -> &'static str {
        "nowhere"
    }

    fn ordering(&self) -> Ordering {
        Ordering::Commit
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        messages.iter().map(|_| Ok(())).collect()
    }
}
