//! Ports kept in memory: reference models, simple enough to be obviously right, that pass the same
//! kit as the backends; and fakes for users' own tests.

mod outbox;

pub use outbox::{MemoryOutbox, MemoryOutboxConfig, MemoryTransaction};
