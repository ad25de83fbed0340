//! The whole pipeline in one SQLite file: the outbox, the queue behind it, and what is observed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outbox::Result;
use outbox::env::EnvConfig;
use outbox::publish::QueuePublisher;
use outbox::relay::{Relay, RelayConfig};
use outbox::sqlite::{SqliteOptions, SqliteOutbox, SqliteQueue, SqliteQueueConfig, SqliteStore};

/// Where the file is unless somebody says otherwise. Production wants another place: the system
/// cleans this one up.
pub(crate) fn default_path() -> PathBuf {
    std::env::temp_dir().join("owm_producer_tasks.db")
}

/// The open file.
pub(crate) struct Embedded {
    pub(crate) store: SqliteStore,
    pub(crate) outbox: Arc<SqliteOutbox>,
    pub(crate) queue: Arc<SqliteQueue>,
}

impl Embedded {
    /// Opens the file at `path`; makes it and its folder where they are missing.
    pub(crate) async fn open(path: &Path, env: &EnvConfig) -> Result<Self> {
        let readers = env.max_connections.map_or(1, |most| most as usize);
        let options = SqliteOptions::new(path).readers(readers);
        let store = SqliteStore::open_with(options).await?;
        let queue = SqliteQueue::open(&store, queue_config(env)).await?;
        Ok(Self {
            outbox: Arc::new(SqliteOutbox::on(&store)),
            queue: Arc::new(queue),
            store,
        })
    }

    /// A relay from the outbox to the queue, whose flush gives up when nothing moves for so long.
    pub(crate) fn relay(&self, env: &EnvConfig, patience: Duration) -> Result<Relay> {
        let queue = Arc::clone(&self.queue);
        let config = RelayConfig {
            flush_patience: patience,
            ..env.relay()
        };
        let publisher = Arc::new(QueuePublisher::new(queue));
        Relay::new(self.outbox.clone(), publisher, config)
    }
}

fn queue_config(env: &EnvConfig) -> SqliteQueueConfig {
    let config = SqliteQueueConfig::named(env.stream.clone().unwrap_or_default());
    let most = env.high_water_mark.and_then(|most| most.try_into().ok());
    SqliteQueueConfig {
        high_water: most.unwrap_or(config.high_water),
        dedup_window: env.dedup_window.unwrap_or(config.dedup_window),
        ..config
    }
}
