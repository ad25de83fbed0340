//! The file that everything rests in: the outbox and what is observed, and the queue between them
//! unless that is elsewhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outbox::Result;
use outbox::env::EnvConfig;
use outbox::relay::{Relay, RelayConfig};
use outbox::sqlite::{SqliteOptions, SqliteOutbox, SqliteStore};

use super::broker::Broker;
use super::outcome::Failure;

/// Where the file is unless somebody says otherwise. Production wants another place: the system
/// cleans this one up.
pub(crate) fn default_path() -> PathBuf {
    std::env::temp_dir().join("owm_producer_tasks.db")
}

/// The open file.
pub(crate) struct Embedded {
    pub(crate) store: SqliteStore,
    pub(crate) outbox: Arc<SqliteOutbox>,
    pub(crate) broker: Broker,
}

impl Embedded {
    /// Opens the file at `path`; makes it and its folder where they are missing.
    pub(crate) async fn open(path: &Path, env: &EnvConfig) -> Result<Self, Failure> {
        let readers = env.max_connections.map_or(1, |most| most as usize);
        // What is sent to a server that may lose it is kept for a while.
        let keep = env.keep_published.unwrap_or(env.redis_url.is_some());
        let mut options = SqliteOptions::new(path)
            .readers(readers)
            .keep_published(keep);
        if let Some(timeout) = env.busy_timeout {
            options = options.busy_timeout(timeout);
        }
        if let Some(percent) = env.background_share {
            options = options.background_share(percent);
        }
        let store = SqliteStore::open_with(options).await?;
        let outbox = SqliteOutbox::on(&store);
        Ok(Self {
            broker: Broker::open(&outbox, env).await?,
            outbox: Arc::new(outbox),
            store,
        })
    }

    /// A relay from the outbox to the queue, whose flush gives up when nothing moves for so long.
    pub(crate) fn relay(&self, env: &EnvConfig, patience: Duration) -> Result<Relay> {
        let config = RelayConfig {
            flush_patience: patience,
            ..env.relay()
        };
        let publisher = Arc::clone(&self.broker.publisher);
        Relay::new(self.outbox.clone(), publisher, config)
    }
}
