//! The queue and the shipped worker, wherever their keys lie and whoever has them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use outbox_core::consume::{Consumer, ConsumerConfig, Semantics, Worker, WorkerConfig};
use outbox_core::delivery::Delivery;
use outbox_core::error::HandlerError;
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::Queue;
use outbox_core::report::StopReport;
use outbox_core::signal::Shutdown;
use outbox_core::time::{Clock, SystemClock};
use outbox_redis::{RedisQueue, RedisQueueConfig};
use outbox_redis_harness::RedisCluster;
use tokio::task::JoinHandle;

use super::*;
use crate::sentinel::Group;

/// How often each message was handled.
type Counts = Arc<Mutex<BTreeMap<MessageId, u32>>>;

fn messages(count: usize) -> Vec<Message> {
    let made = |(number, id): (usize, MessageId)| {
        let new = NewMessage::new("tasks", number.to_string());
        Message::appended(&new, id, SystemClock.now())
    };
    ids(count).into_iter().enumerate().map(made).collect()
}

/// Enqueues until all of `batch` is taken, as a relay would.
async fn enqueue(queue: &RedisQueue, batch: &[Message]) {
    let until = Instant::now() + PATIENCE;
    while let Some(error) = queue.enqueue(batch).await.into_iter().find_map(Result::err) {
        assert!(Instant::now() < until, "not taken: {error}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A worker with all guarantees on, that counts what it handles until it is told to stop.
struct Working {
    counts: Counts,
    shutdown: Shutdown,
    run: JoinHandle<Result<StopReport>>,
}

impl Working {
    fn on(queue: &RedisQueue, cache: RedisDeduplicationCache) -> Result<Self, BoxError> {
        let (counts, shutdown) = (Counts::default(), Shutdown::new());
        let counting = Arc::clone(&counts);
        let handler = move |delivery: Delivery| {
            let mut counts = counting.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry(delivery.message.id).or_default() += 1;
            drop(counts);
            async { Ok::<(), HandlerError>(()) }
        };
        let config = ConsumerConfig {
            semantics: Semantics::EffectivelyOnce,
            ..ConsumerConfig::default()
        };
        let consumer = Consumer::new(handler, config).dedup(Arc::new(cache));
        let config = WorkerConfig {
            safety_poll: SECOND,
            ..WorkerConfig::default()
        };
        let worker = Worker::new(Arc::new(queue.clone()), consumer, config)?;
        let run = tokio::spawn({
            let shutdown = shutdown.clone();
            async move { worker.run(&shutdown).await }
        });
        Ok(Self {
            counts,
            shutdown,
            run,
        })
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<MessageId, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn handles_all_of(&self, messages: &[Message]) {
        let until = Instant::now() + PATIENCE;
        let missing = || {
            let counts = self.counts();
            let unknown = |message: &&Message| !counts.contains_key(&message.id);
            messages.iter().filter(unknown).count()
        };
        while missing() > 0 {
            assert!(Instant::now() < until, "{} are missing", missing());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops it, and tells how often it handled something again.
    async fn stop(self) -> Result<u64, BoxError> {
        self.shutdown.trigger();
        self.run.await??;
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(counts.values().map(|count| u64::from(count - 1)).sum())
    }
}

#[tokio::test]
async fn a_queue_on_any_node_hands_everything_out_once() -> Tested {
    let cluster = RedisCluster::start().await?;
    let store = RedisStore::open_with(options(cluster.url())).await?;
    let messages = messages(300);
    for name in crate::cluster::a_name_for_each_node(&cluster).await? {
        let queue = RedisQueue::open(&store, RedisQueueConfig::named(&name)).await?;
        let cache = RedisDeduplicationCache::open(&store, &name).await?;
        let working = Working::on(&queue, cache)?;
        for _ in 0..2 {
            enqueue(&queue, &messages).await;
        }
        working.handles_all_of(&messages).await;
        assert_eq!(working.stop().await?, 0, "handled twice");
        assert_eq!(queue.stats(SystemClock.now()).await?.depth(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn what_a_failover_loses_of_a_queue_comes_when_it_is_sent_again() -> Tested {
    let mut group = Group::start().await?;
    let store = RedisStore::open_with(options(group.url())).await?;
    let queue = RedisQueue::open(&store, RedisQueueConfig::named("watched")).await?;
    let cache = RedisDeduplicationCache::open(&store, "watched").await?;
    let messages = messages(400);
    let (before, rest) = messages.split_at(100);
    let (lost, after) = rest.split_at(100);
    enqueue(&queue, before).await;
    group.is_synced().await?;
    group.stop_replication().await?;
    enqueue(&queue, lost).await;
    group.primary.kill().await?;

    let working = Working::on(&queue, cache)?;
    for batch in after.chunks(20) {
        enqueue(&queue, batch).await;
    }
    working.handles_all_of(before).await;
    working.handles_all_of(after).await;
    let known = working.counts().len();
    assert_eq!(known, 300, "acknowledged, and lost with its primary");
    // What an outbox still keeps, it sends again: nobody sees any of it twice.
    enqueue(&queue, &messages).await;
    working.handles_all_of(&messages).await;
    assert_eq!(working.stop().await?, 0, "handled twice");
    Ok(())
}

#[tokio::test]
async fn a_worker_under_load_goes_on_with_the_primary_that_is_promoted() -> Tested {
    let mut group = Group::start().await?;
    let store = RedisStore::open_with(options(group.url())).await?;
    let queue = RedisQueue::open(&store, RedisQueueConfig::named("watched")).await?;
    let cache = RedisDeduplicationCache::open(&store, "watched").await?;
    let working = Working::on(&queue, cache)?;
    let messages = messages(2_000);
    for (number, batch) in messages.chunks(20).enumerate() {
        if number == 50 {
            group.primary.kill().await?;
        }
        enqueue(&queue, batch).await;
    }
    enqueue(&queue, &messages).await;
    working.handles_all_of(&messages).await;
    working.stop().await?;
    Ok(())
}

#[tokio::test]
async fn slots_that_move_under_load_lose_nothing_and_leave_nobody_without_an_answer() -> Tested {
    let cluster = RedisCluster::start().await?;
    let store = RedisStore::open_with(options(cluster.url())).await?;
    let queue = RedisQueue::open(&store, RedisQueueConfig::named("moving")).await?;
    let cache = RedisDeduplicationCache::open(&store, "moving").await?;
    let working = Working::on(&queue, cache)?;
    let messages = messages(6_000);
    let (one, other) = messages.split_at(3_000);
    let produce = async |part: &[Message]| {
        for batch in part.chunks(20) {
            enqueue(&queue, batch).await;
        }
    };
    let moving = async {
        for _ in 0..8 {
            let key = "outbox:{moving}:stream";
            let home = cluster.home_of(key).await?;
            cluster.move_slot(key, home, (home + 1) % 3).await?;
            sleep(Duration::from_millis(100)).await;
        }
        Ok::<(), BoxError>(())
    };
    let ((), (), moved) = tokio::join!(produce(one), produce(other), moving);
    moved?;
    working.handles_all_of(&messages).await;
    working.stop().await?;
    assert_eq!(queue.losses(), 0);
    Ok(())
}
