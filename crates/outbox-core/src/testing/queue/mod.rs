//! Cases of [`crate::ports::Queue`].

mod cancel;
mod dequeue;
mod duplicates;
mod enqueue;
mod fencing;
mod full;
mod harness;
mod malformed;
mod outcomes;
mod recover;
mod scene;
mod stats;
mod table;
mod wait;

pub use harness::{QueueCapabilities, QueueHarness, QueueSetup, QueueStore};
pub use table::queue_cases;
