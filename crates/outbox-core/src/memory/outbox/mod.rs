//! An outbox in memory.
//!
//! A row keeps what happened to it; where it stands (ready, waiting, parked) is worked out anew
//! from all rows whenever somebody asks, so no state can go stale.

mod append;
mod aside;
mod claim;
mod maintain;
mod port;
mod replay;
mod settle;
mod state;
mod transaction;

pub use port::{MemoryOutbox, MemoryOutboxConfig};
pub use transaction::MemoryTransaction;
