//! From an outbox to a stream: one script a batch, which refuses a stale relay, adds nothing twice,
//! and finds out when the server has lost what it had acknowledged.

mod chain;
mod config;
mod loss;
mod port;
mod send;

pub use config::{EntryIds, RedisPublisherConfig};
pub use port::RedisPublisher;
