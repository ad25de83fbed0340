//! The memory fittings pass the conformance kit. One harness a port, each in a file of its own.
use std::process::ExitCode;

use outbox_core::testing::Kit;

mod outbox;

fn main() -> ExitCode {
    Kit::new("memory").outbox(outbox::MemoryHarness).run()
}
