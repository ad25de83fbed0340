//! Facade.

pub use outbox_core::*;

/// The embedded backends: outbox, queue, deduplication and rate limits in one SQLite file.
#[cfg(feature = "sqlite")]
pub use outbox_sqlite as sqlite;
