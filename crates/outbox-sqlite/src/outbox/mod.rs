//! The outbox: one lease on the whole of it, and one file for what each method does.

mod append;
mod aside;
mod claim;
mod draft;
mod fresh;
mod gather;
mod glance;
mod group;
pub(crate) mod history;
mod lease;
mod maintain;
#[cfg(test)]
mod plans;
mod port;
mod pulse;
mod read;
mod ready;
mod replay;
mod session;
mod settle;
pub(crate) mod settle_any;
mod share;
mod shared;

pub use port::SqliteOutbox;
pub(crate) use shared::Shared;
