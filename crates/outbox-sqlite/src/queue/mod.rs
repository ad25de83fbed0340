//! The embedded queue.
//!
//! An entry that is handed out for the first time is not touched: one small row claims a whole run
//! of entries for their new owner, and the queue's head moves on. Only an entry that is given back,
//! for a retry or a delay, gets a row of its own in which its fate is written. So the usual path
//! costs a batch one insertion, one claim and one deletion, whatever the backlog.
//!
//! One file a method of the port; the statements stand beside the method that runs them.

mod at_once;
mod config;
mod dequeue;
mod enqueue;
mod extend;
mod holding;
mod look;
#[cfg(test)]
mod plans;
mod port;
mod purge;
pub(crate) mod quarantine;
mod read_out;
mod recover;
mod room;
mod run;
mod settle;
pub(crate) mod span;
mod stats;

pub use config::SqliteQueueConfig;
pub use port::SqliteQueue;
pub(crate) use room::Rooms;
