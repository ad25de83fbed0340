//! Cases of [`crate::ports::DeduplicationCache`].

mod claim;
mod expiry;
mod fencing;
mod harness;
mod processed;
mod scene;
mod table;

pub use harness::{DedupCapabilities, DedupHarness, DedupStore};
pub use table::dedup_cases;
