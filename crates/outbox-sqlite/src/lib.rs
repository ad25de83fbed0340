//! SQLite backends: outbox, queue, inbox, deduplication, rate limits, all in one file.
//!
//! # Do not open the file behind SQLite's back
//! Opening and closing the database, its `-wal` or its `-shm` file with `std::fs` in a process that
//! has the store open drops SQLite's locks, and two processes may then write at once. Back it up
//! with `VACUUM INTO`.
//!
//! # A note on its statements
//! They say `LIMIT +?1` where `LIMIT ?1` would do: SQLite looks into a bare parameter there to plan
//! by its value, and so prepares the statement anew with every value, which costs more than many of
//! them do.

mod answer;
mod checkpoint;
mod codec;
mod connect;
mod dedup;
mod delivery_log;
#[cfg(feature = "dlq")]
mod dlq;
mod error;
mod health;
mod inbox;
mod line;
mod location;
mod options;
mod outbox;
mod pace;
#[cfg(test)]
mod plan;
mod purge;
mod quarantine;
mod queue;
mod rate_limit;
mod runs;
mod schema;
mod scope;
mod store;
mod unit;
mod watch;

pub use dedup::SqliteDeduplicationCache;
pub use delivery_log::SqliteDeliveryLog;
#[cfg(feature = "dlq")]
pub use dlq::{SqliteDlqHeap, SqliteQuarantine};
pub use inbox::{InboxHandler, SqliteInbox};
pub use options::{SqliteOptions, Synchronous};
pub use outbox::SqliteOutbox;
pub use queue::{SqliteQueue, SqliteQueueConfig};
pub use rate_limit::{SqliteFixedWindowLimiter, SqliteGcraLimiter};
pub use schema::{Migration, migrations, schema_sql};
pub use store::SqliteStore;
pub use unit::SqliteTransaction;
