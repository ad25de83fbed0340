//! The same pipeline with its queue on a Redis server.

use std::sync::Arc;

use outbox::env::EnvConfig;
use outbox::id::Entropy;
use outbox::redis::{
    RedisOptions, RedisPublisher, RedisPublisherConfig, RedisQueue, RedisQueueConfig, RedisStore,
};
use outbox::sqlite::SqliteOutbox;
use outbox::{OutboxError, Result};

use super::broker::Broker;
use super::outcome::Failure;

/// Opens the queue and the publisher; what the server loses is published again from the outbox.
pub(crate) async fn open(outbox: &SqliteOutbox, env: &EnvConfig) -> Result<Broker, Failure> {
    let store = connect(env).await?;
    let name = env.stream.clone().unwrap_or_default();
    let queue = RedisQueueConfig::named(name.clone());
    let publisher = RedisPublisherConfig::named(name);
    let window = env.dedup_window.unwrap_or(queue.dedup_window);
    let most = env.high_water_mark;
    let queue = RedisQueueConfig {
        high_water: most
            .and_then(|most| most.try_into().ok())
            .unwrap_or(queue.high_water),
        dedup_window: window,
        ..queue
    };
    let publisher = RedisPublisherConfig {
        high_water: most.map_or(publisher.high_water, u64::from),
        dedup_window: window,
        ..publisher
    };
    let publisher = RedisPublisher::new(&store, publisher)?.replaying(Arc::new(outbox.clone()));
    let publisher = Arc::new(publisher);
    Ok(Broker {
        queue: Arc::new(RedisQueue::open(&store, queue).await?),
        publisher: publisher.clone(),
        stream: Some(publisher),
    })
}

/// Connects; a server that is away is tried again, after delays that grow and are drawn at random.
async fn connect(env: &EnvConfig) -> Result<RedisStore, Failure> {
    let retry = env.relay().retry;
    let entropy = Entropy::from_system();
    let mut attempt = 1;
    loop {
        let options = RedisOptions::from_env(env).ok_or_else(no_url)?;
        let error = match RedisStore::open_with(options).await {
            Ok(store) => return Ok(store),
            Err(error) => error,
        };
        let delay = retry.next_delay(attempt, None, &entropy);
        match delay.filter(|_| error.is_transient()) {
            Some(delay) => {
                eprintln!("{error}\ntrying again in {delay:.1?}");
                tokio::time::sleep(delay).await;
                attempt += 1;
            }
            None => return Err(gave_up(error)),
        }
    }
}

fn no_url() -> Failure {
    Failure::Unusable("--redis: no URL".to_owned())
}

fn gave_up(error: OutboxError) -> Failure {
    match error {
        OutboxError::Config(problems) => Failure::Unusable(format!("--redis: {problems}")),
        other => Failure::Incomplete(format!("{other}\nNothing was lost: run again.")),
    }
}
