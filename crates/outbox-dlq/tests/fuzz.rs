//! A line of an import may be anything: it is read as what was written, or told as a typed error.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use outbox_core::id::MessageId;
use outbox_core::message::{Message, NewMessage};
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;
use outbox_dlq::{DeadLetter, LetterId, Origin, read_line, write_line};
use proptest::collection::vec;
use proptest::prelude::*;

fn moment() -> impl Strategy<Value = Timestamp> {
    (0..4_000_000_000_000_000_i64).prop_map(Timestamp::from_micros)
}

fn message() -> impl Strategy<Value = Message> {
    let parts = (
        ".{1,20}",
        vec(any::<u8>(), 0..200),
        proptest::option::of(".{1,20}"),
        vec(("[a-z][a-z0-9-]{0,10}", "[ -~]{0,20}"), 0..4),
        (any::<[u8; 16]>(), moment()),
    );
    parts.prop_map(|(topic, payload, key, headers, (id, at))| {
        let mut new = NewMessage::new(topic, payload);
        if let Some(key) = key {
            new = new.ordering_key(key);
        }
        for (name, value) in headers {
            new = new.header(name, value);
        }
        Message::appended(&new, MessageId::from_bytes(id), at)
    })
}

fn failure() -> impl Strategy<Value = AttemptRecord> {
    (moment(), 0..10_000_000_u64, ".{0,20}", ".{0,60}").prop_map(|(at, micros, kind, error)| {
        AttemptRecord {
            at,
            duration: Duration::from_micros(micros),
            kind,
            error,
        }
    })
}

fn letter() -> impl Strategy<Value = DeadLetter> {
    let origin = prop_oneof![Just(Origin::Outbox), "[a-z]{1,12}".prop_map(Origin::Queue),];
    let counts = (any::<u32>(), any::<u32>(), vec(failure(), 0..3));
    let moments = (moment(), moment(), moment());
    let texts = (".{0,20}", ".{0,20}", ".{0,80}");
    let what = (
        proptest::option::of(message()),
        proptest::option::of(vec(any::<u8>(), 0..100)),
    );
    (origin, counts, moments, texts, what).prop_map(|(origin, counts, moments, texts, what)| {
        let (place, kind, error) = texts;
        DeadLetter {
            id: LetterId(0),
            origin,
            place,
            fingerprint: DeadLetter::fingerprint_of(what.0.as_ref(), &kind, &error),
            message: what.0,
            body: what.1.map(Into::into),
            attempts: counts.0,
            redrives: counts.1,
            history: counts.2,
            first_failed_at: moments.0,
            last_failed_at: moments.1,
            kind,
            error,
            quarantined_at: moments.2,
            problem: None,
        }
    })
}

proptest! {
    #[test]
    fn a_letter_is_read_as_it_was_written(letter in letter()) {
        let line = write_line(&letter).unwrap();
        prop_assert_eq!(line.matches('\n').count(), 1);
        prop_assert_eq!(read_line(&line).unwrap(), letter);
    }

    #[test]
    fn any_text_is_a_letter_or_an_error(line in ".{0,200}") {
        let _ = read_line(&line);
    }

    #[test]
    fn a_line_with_a_slip_in_it_is_a_letter_or_an_error(
        letter in letter(), place in any::<prop::sample::Index>(), slip in any::<char>(), length in 0..30_usize
    ) {
        let mut characters: Vec<char> = write_line(&letter).unwrap().chars().collect();
        let start = place.index(characters.len());
        let end = (start + length).min(characters.len());
        characters.splice(start..end, [slip]);
        let line: String = characters.into_iter().collect();
        if let Ok(read) = read_line(&line) {
            write_line(&read).unwrap();
        }
    }
}
