//! The memory implementations pass the kit.
use std::process::ExitCode;

use outbox_core::testing::Kit;
use outbox_dlq::testing::with_dlq;

#[path = "../memory_store/mod.rs"]
mod memory_store;

fn main() -> ExitCode {
    with_dlq(Kit::new("memory"), memory_store::MemoryHarness).run()
}
