//! What SQLite means to do for the outbox's statements: none goes through a table, however long the
//! backlog. Where only the first match counts, walking an index of few rows is allowed.

use super::{
    append, aside, fresh, lease, maintain, pulse, read, ready, replay, settle, settle_any,
};
use crate::plan::assert_no_scans;

#[tokio::test]
async fn no_statement_of_the_relays_way_goes_through_a_table() {
    // Before it stands the pulse, of which only the first matches count.
    let (_, fresh) = fresh::LOOK.split_once("; ").unwrap();
    assert_no_scans(&[
        fresh,
        pulse::TOPICS,
        read::BEHIND,
        read::BEHIND_OR_BLOCKED,
        read::LISTED,
        read::LISTED_OR_BLOCKED,
        read::ALONE,
        ready::DUE,
        ready::PARKED,
        aside::PARK,
        aside::HOLD,
        lease::ACQUIRE,
        lease::EXTEND,
        settle_any::PRESENT,
        settle_any::UNPARK_LATER,
        settle_any::MAKE_WAIT,
    ])
    .await;
}

#[tokio::test]
async fn no_statement_of_append_purge_and_replay_goes_through_a_table() {
    assert_no_scans(&[
        append::KNOWN_IDS,
        append::KNOWN_KEYS,
        maintain::OLD,
        maintain::PURGE_MESSAGES,
        maintain::PURGE_KEYS,
        replay::FIRST_SINCE,
        replay::KEPT,
        replay::SEIZE,
        replay::MAKE_READY,
    ])
    .await;
}

#[tokio::test]
async fn no_part_of_a_settlement_goes_through_a_table() {
    for text in [
        settle::DELETE_RANGE,
        settle::DELETE_RANGE_AND_LIST,
        settle::KEEP_LIST,
    ] {
        let mut parts: Vec<&str> = text.split(';').map(str::trim).collect();
        assert_eq!(
            (parts.remove(0), parts.pop()),
            ("BEGIN IMMEDIATE", Some("COMMIT"))
        );
        assert_no_scans(&parts).await;
    }
}
