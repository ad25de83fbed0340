//! What the quarantine of a queue stands on.

use super::{RedisQueue, RedisQueueConfig};
use crate::store::RedisStore;

impl RedisQueue {
    pub(crate) fn store(&self) -> &RedisStore {
        &self.0.store
    }

    pub(crate) fn config(&self) -> &RedisQueueConfig {
        &self.0.config
    }

    /// Its keys, in the order in which every script has them.
    pub(crate) fn all_keys(&self) -> [&str; 11] {
        self.0.parts.all()
    }
}
