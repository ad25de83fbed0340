//! The outbox: one lease on the whole of it, and one file for what each method does.

mod append;
mod aside;
mod claim;
mod draft;
mod group;
mod lease;
mod maintain;
mod port;
mod pulse;
mod read;
mod ready;
mod session;
mod settle;
mod shared;

pub use port::SqliteOutbox;
pub(crate) use shared::Shared;
