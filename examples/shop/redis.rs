//! The shop with a queue on a Redis server between its outbox and the warehouse: what the warehouse
//! does not take leaves the queue, and rests on the server.

use std::sync::Arc;

use async_trait::async_trait;
use outbox::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use outbox::delivery::Delivery;
use outbox::env::EnvConfig;
use outbox::ports::{Clock, Handler};
use outbox::redis::{
    RedisDlqHeap, RedisOptions, RedisPublisher, RedisPublisherConfig, RedisQuarantine, RedisQueue,
    RedisQueueConfig, RedisStore,
};
use outbox::relay::Relay;
use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteOutbox, SqliteStore};
use outbox::time::SystemClock;

use super::warehouse::Warehouse;
use super::{Outcome, Shop, Way, processor, relay_config, retry};

/// From the outbox to the queue, and from there to the warehouse.
struct ByQueue {
    relay: Relay,
    worker: Worker,
}

#[async_trait]
impl Way for ByQueue {
    async fn bring(&self) -> Outcome<()> {
        self.relay.bring().await?;
        self.worker.run_until_empty(&Shutdown::new()).await?;
        Ok(())
    }
}

/// Opens the shop; each time it has a queue of its own, so that it finds nothing of an earlier story.
pub(super) async fn open(file: &SqliteStore, env: &EnvConfig) -> Outcome<Shop> {
    let options = RedisOptions::from_env(env).ok_or("--redis: no URL")?;
    let store = RedisStore::open_with(options).await?;
    let name = format!("orders-{}", SystemClock.now().as_micros());
    let queue = RedisQueue::open(&store, RedisQueueConfig::named(name.clone())).await?;
    let quarantine = Arc::new(RedisQuarantine::of(&queue));
    let heap = Arc::new(RedisDlqHeap::new(&store, &name)?);
    let processor = processor(heap, quarantine.clone())?;
    let warehouse = Arc::new(Warehouse::default());
    let consumer = Consumer::new(handling(warehouse.clone()), consumer_config());
    let worker = Worker::new(Arc::new(queue), consumer, WorkerConfig::default())?;
    let outbox = Arc::new(SqliteOutbox::on(file));
    let publisher = RedisPublisher::new(&store, RedisPublisherConfig::named(name))?;
    let way = ByQueue {
        relay: Relay::new(outbox.clone(), Arc::new(publisher), relay_config())?,
        worker: worker.hook(Arc::new(processor.recorder())),
    };
    Ok(Shop {
        way: Box::new(way),
        outbox,
        quarantine,
        warehouse,
        keeps_order: false,
        processor,
    })
}

fn handling(warehouse: Arc<Warehouse>) -> impl Handler {
    move |delivery: Delivery| {
        let warehouse = Arc::clone(&warehouse);
        async move { warehouse.handle(&delivery).await }
    }
}

/// Only what fails is to wait, and not what comes behind it.
fn consumer_config() -> ConsumerConfig {
    ConsumerConfig {
        retry: retry(),
        breaker: None,
        ..ConsumerConfig::default()
    }
}
