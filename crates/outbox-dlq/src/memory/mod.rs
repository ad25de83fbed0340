//! Both ports in memory: reference models that pass the kit, and fakes for users' own tests.

mod heap;
mod letters;
mod quarantine;

pub use heap::MemoryDlqHeap;
pub use quarantine::MemoryQuarantine;
