//! How long a file may be.

use crate::assert_tidy;
use crate::source::{files, rust};

/// One file, one thing.
const LINES: usize = 400;

#[test]
fn no_file_is_longer_than_a_reader_can_hold_in_mind() {
    let mut breaches = Vec::new();
    for file in rust().iter().chain(&files("crates", "sql")) {
        let lines = file.text.lines().count();
        if lines >= LINES {
            breaches.push(format!("{}: {lines} lines, not under {LINES}", file.path));
        }
    }
    assert_tidy(&breaches);
}
