//! How long a file may be.

use crate::assert_tidy;
use crate::source::{files, rust};

/// One file, one thing.
const LINES: usize = 400;

/// Files that were longer when the rule was first held, with the lines that they may have: they may
/// only shrink, and leave this table once they are short enough.
const LONG: &[(&str, usize)] = &[
    ("crates/outbox-core/src/consume/consumer.rs", 422),
    ("crates/outbox-core/src/message.rs", 547),
    ("crates/outbox-core/src/relay/engine/events.rs", 416),
];

#[test]
fn no_file_is_longer_than_a_reader_can_hold_in_mind() {
    let mut breaches = Vec::new();
    let mut long = LONG.to_vec();
    for file in rust().iter().chain(&files("crates", "sql")) {
        let lines = file.text.lines().count();
        let exception = long.iter().position(|(path, _)| *path == file.path);
        let limit = exception.map_or(LINES - 1, |place| long.swap_remove(place).1);
        if lines > limit {
            breaches.push(format!("{}: {lines} lines, over {limit}", file.path));
        }
        if exception.is_some() && lines < LINES {
            breaches.push(format!(
                "{}: is short now, and needs no exception",
                file.path
            ));
        }
    }
    breaches.extend(
        long.iter()
            .map(|(path, _)| format!("{path}: is gone, but has an exception")),
    );
    assert_tidy(&breaches);
}
