//! Dead letters: the heap that counts failures, and what can be done with the quarantine of a queue.
//!
//! What workers give up by themselves lies in the same quarantine, a stream that the queue writes
//! whether or not this feature is on. What filters ask for is kept beside it, in indexes that are
//! filled by the first call that needs them.

mod audit;
mod count;
mod heap;
mod import;
mod label;
mod letter;
mod move_out;
mod number;
mod pick;
mod port;
mod redrive;
mod scripts;

pub use heap::RedisDlqHeap;
pub use port::RedisQuarantine;
