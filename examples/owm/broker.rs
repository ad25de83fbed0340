//! Where tasks wait for workers: a queue in the same file, or, with `--redis`, a Redis stream. It is
//! the one place that knows which.

use std::sync::Arc;

use outbox::Result;
use outbox::env::EnvConfig;
use outbox::ports::{Publisher, Queue};
use outbox::publish::QueuePublisher;
use outbox::sqlite::{SqliteOutbox, SqliteQueue, SqliteQueueConfig};

use super::outcome::Failure;

/// The way to workers.
#[derive(Clone)]
pub(crate) struct Broker {
    /// What workers take tasks from.
    pub(crate) queue: Arc<dyn Queue>,
    /// What the outbox is published to.
    pub(crate) publisher: Arc<dyn Publisher>,
    /// The same, where it is a stream whose server may lose what it had.
    #[cfg(feature = "redis")]
    pub(crate) stream: Option<Arc<outbox::redis::RedisPublisher>>,
}

impl Broker {
    /// Opens what `env` asks for.
    pub(crate) async fn open(outbox: &SqliteOutbox, env: &EnvConfig) -> Result<Self, Failure> {
        match env.redis_url {
            None => Ok(Self::in_file(outbox, env).await?),
            Some(_) => Self::on_redis(outbox, env).await,
        }
    }

    async fn in_file(outbox: &SqliteOutbox, env: &EnvConfig) -> Result<Self> {
        let config = SqliteQueueConfig::named(env.stream.clone().unwrap_or_default());
        let most = env.high_water_mark.and_then(|most| most.try_into().ok());
        let config = SqliteQueueConfig {
            high_water: most.unwrap_or(config.high_water),
            dedup_window: env.dedup_window.unwrap_or(config.dedup_window),
            ..config
        };
        let queue = Arc::new(SqliteQueue::open(outbox.store(), config).await?);
        Ok(Self {
            publisher: Arc::new(QueuePublisher::new(queue.clone())),
            queue,
            #[cfg(feature = "redis")]
            stream: None,
        })
    }

    /// Has the outbox send again what the server has lost since, where it can; how much that is.
    pub(crate) async fn find_losses(&self) -> Result<u64> {
        #[cfg(feature = "redis")]
        if let Some(stream) = &self.stream {
            return stream.find_losses().await;
        }
        Ok(0)
    }

    #[cfg(not(feature = "redis"))]
    async fn on_redis(_: &SqliteOutbox, _: &EnvConfig) -> Result<Self, Failure> {
        let problem = "--redis: this program was built without Redis; \
            build it with --features sqlite,redis";
        Err(Failure::Unusable(problem.to_owned()))
    }

    #[cfg(feature = "redis")]
    async fn on_redis(outbox: &SqliteOutbox, env: &EnvConfig) -> Result<Self, Failure> {
        super::redis::open(outbox, env).await
    }
}
