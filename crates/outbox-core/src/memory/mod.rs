//! Ports kept in memory: reference models, simple enough to be obviously right, that pass the same
//! kit as the backends; and fakes for users' own tests.

mod dedup;
mod delivery_log;
mod entries;
mod fallback_limiter;
mod outbox;
mod queue;
mod rate_limit;
mod removal;

pub use dedup::MemoryDeduplicationCache;
pub use delivery_log::MemoryDeliveryLog;
pub use fallback_limiter::{FailureMode, FallbackLimiter};
pub use outbox::{MemoryOutbox, MemoryOutboxConfig, MemoryTransaction};
pub use queue::{MemoryQueue, MemoryQueueConfig};
pub use rate_limit::{MemoryFixedWindowLimiter, MemoryGcraLimiter};
pub use removal::Removal;
