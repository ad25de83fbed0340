//! Memory of what is done.

mod cache;
mod call;
mod layout;

pub use cache::RedisDeduplicationCache;
pub use layout::{CompactLayout, DedupLayout, SetsLayout};
