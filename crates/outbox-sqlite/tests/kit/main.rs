//! The SQLite outbox passes the conformance kit, on real files.
use std::process::ExitCode;

use outbox_core::testing::Kit;

mod outbox;

fn main() -> ExitCode {
    Kit::new("sqlite").outbox(outbox::SqliteHarness).run()
}
