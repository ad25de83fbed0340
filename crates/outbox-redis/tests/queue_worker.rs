//! The shipped worker on the queue in Redis, by the server's own clock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outbox_core::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use outbox_core::delivery::Delivery;
use outbox_core::error::HandlerError;
use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{DequeueRequest, Queue};
use outbox_core::signal::Shutdown;
use outbox_core::time::{Clock, SystemClock, Timestamp};
use outbox_redis::{RedisQueue, RedisQueueConfig, RedisStore};
use outbox_redis_harness::{RedisServer, Shared, Wire};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// A queue that no other test has, on the server at `url`.
async fn queue_of(url: &str, name: &str) -> RedisQueue {
    let store = RedisStore::open(url).await.unwrap();
    let config = RedisQueueConfig::named(name);
    RedisQueue::open(&store, config).await.unwrap()
}

fn unique() -> String {
    WorkerId::new(&Entropy::from_system()).to_string()
}

fn messages(count: u64) -> Vec<Message> {
    let message = |number: u64| {
        let mut bytes = [7; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        let new = NewMessage::new("tasks", number.to_string());
        Message::appended(&new, MessageId::from_bytes(bytes), Timestamp::EPOCH)
    };
    (0..count).map(message).collect()
}

async fn enqueue(queue: &RedisQueue, messages: &[Message]) {
    for result in queue.enqueue(messages).await {
        result.unwrap();
    }
}

#[tokio::test]
async fn several_workers_handle_each_message_through_failures() {
    let shared = Shared::start().await.unwrap();
    let name = unique();
    let counts: Arc<Mutex<BTreeMap<MessageId, u32>>> = Arc::default();
    let sender = queue_of(shared.url(), &name).await;
    enqueue(&sender, &messages(2_000)).await;
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let queue = Arc::new(queue_of(shared.url(), &name).await);
        let counts = Arc::clone(&counts);
        let handler = move |delivery: Delivery| {
            let id = delivery.message.id;
            let fails = delivery.attempt == 1 && id.as_bytes()[15].is_multiple_of(10);
            if !fails {
                *counts.lock().unwrap().entry(id).or_default() += 1;
            }
            async move {
                match fails {
                    true => Err(HandlerError::retry("not yet")),
                    false => Ok(()),
                }
            }
        };
        let consumer = Consumer::new(handler, ConsumerConfig::default());
        let worker = Worker::new(queue, consumer, WorkerConfig::default()).unwrap();
        runs.spawn(async move { worker.run_until_empty(&Shutdown::new()).await });
    }
    let mut done = 0;
    for report in runs.join_all().await {
        done += report.unwrap().tally.done;
    }
    assert_eq!(done, 2_000);
    let counts = std::mem::take(&mut *counts.lock().unwrap());
    assert_eq!(counts.len(), 2_000);
    assert!(counts.values().all(|count| *count == 1), "handled twice");
    assert_eq!(sender.stats(SystemClock.now()).await.unwrap().depth(), 0);
}

#[tokio::test]
async fn an_idle_worker_takes_over_from_a_dead_one_within_five_seconds() {
    let shared = Shared::start().await.unwrap();
    let name = unique();
    let dead = queue_of(shared.url(), &name).await;

    let (handled, mut told) = mpsc::unbounded_channel();
    let handler = move |delivery: Delivery| {
        let handled = handled.clone();
        async move {
            let sent = handled.send(delivery.message.id);
            sent.map_err(HandlerError::retry)
        }
    };
    let consumer = Consumer::new(handler, ConsumerConfig::default());
    let config = WorkerConfig::default();
    let request = DequeueRequest {
        owner: WorkerId::from_bytes([9; 16]),
        max: 10,
        lease: config.lease,
        wait: Duration::ZERO,
        now: SystemClock.now(),
    };
    enqueue(&dead, &messages(3)).await;
    assert_eq!(dead.dequeue(&request).await.unwrap().deliveries.len(), 3);
    let began = Instant::now();
    let queue = Arc::new(queue_of(shared.url(), &name).await);
    let worker = Worker::new(queue, consumer, config).unwrap();
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let runs = tokio::spawn(async move { worker.run(&stop).await });
    for _ in 0..3 {
        let one = timeout(Duration::from_secs(20), told.recv()).await;
        assert!(one.expect("it is taken over").is_some());
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    shutdown.trigger();
    runs.await.unwrap().unwrap();
}

async fn commands(wire: &mut Wire) -> i64 {
    let info = wire.command(&["INFO", "stats"]).await.unwrap();
    let info = info.text().unwrap();
    let mut lines = info.lines();
    let count = lines.find_map(|line| line.strip_prefix("total_commands_processed:"));
    count.unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn an_idle_worker_asks_nothing_and_wakes_at_once() {
    let server = RedisServer::start(&[]).await.unwrap();
    let queue = queue_of(&server.url(), "tasks").await;
    let (handled, mut told) = mpsc::unbounded_channel();
    let handler = move |_: Delivery| {
        let handled = handled.clone();
        async move { handled.send(()).map_err(HandlerError::retry) }
    };
    let consumer = Consumer::new(handler, ConsumerConfig::default());
    let worker = Worker::new(Arc::new(queue.clone()), consumer, WorkerConfig::default()).unwrap();
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let runs = tokio::spawn(async move { worker.run(&stop).await });
    enqueue(&queue, &messages(1)).await;
    told.recv().await.unwrap();

    let mut wire = server.wire().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let before = commands(&mut wire).await;
    sleep(Duration::from_secs(3)).await;
    let asked = commands(&mut wire).await - before - 1;
    assert_eq!(asked, 0, "commands of an idle worker in 3 s");

    let began = Instant::now();
    enqueue(&queue, &messages(2)[1..]).await;
    told.recv().await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    shutdown.trigger();
    runs.await.unwrap().unwrap();
}
