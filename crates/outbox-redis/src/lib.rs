//! Redis backends of the outbox, for pipelines that have outgrown one machine.
//!
//! [`RedisStore`] is one server, cluster or Sentinel group, opened; what this crate offers stands on
//! it. Redis 7.0 or newer and Valkey are supported; what a server can do is probed, never concluded
//! from its version.
//!
//! # What Redis keeps
//! A server keeps what its persistence keeps: with its default settings (no append-only file) a
//! crash loses everything since the last snapshot, and a failover loses what had not reached the
//! replica. Turn on `appendonly yes`, with `appendfsync always` where even a killed server is to lose
//! nothing, keep `maxmemory-policy noeviction`, and keep published messages in the outbox for a while.

mod batch;
mod dedup;
#[cfg(feature = "dlq")]
mod dlq;
mod error;
mod health;
mod keys;
mod link;
mod options;
mod probe;
mod publisher;
mod queue;
mod rate_limit;
mod reader;
mod store;
mod time_source;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;

pub use dedup::{CompactLayout, DedupLayout, RedisDeduplicationCache, SetsLayout};
#[cfg(feature = "dlq")]
pub use dlq::{RedisDlqHeap, RedisQuarantine};
pub use options::{Eviction, RedisOptions};
pub use publisher::{EntryIds, RedisPublisher, RedisPublisherConfig};
pub use queue::{GroupRemoval, RedisGroup, RedisQueue, RedisQueueConfig};
pub use rate_limit::{
    RedisDailyRateLimiter, RedisFixedWindowLimiter, RedisGcraLimiter, RedisLimiterConfig,
};
pub use store::RedisStore;
pub use time_source::TimeSource;
