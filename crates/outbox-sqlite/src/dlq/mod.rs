//! Dead letters: the heap that counts failures, and what can be done with the quarantine.
//!
//! The quarantine is that of the outbox and of the queues of a file; what relays and workers give up by
//! themselves lies in the same table. One file a method, and its statements beside it.

mod audit;
mod count;
mod fill;
mod heap;
mod import;
mod letter;
mod move_out;
mod pick;
#[cfg(test)]
mod plans;
mod port;
mod redrive;
mod send_back;

pub use heap::SqliteDlqHeap;
pub use port::SqliteQuarantine;
