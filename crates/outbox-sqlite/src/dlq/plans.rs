//! No statement about dead letters reads more rows than it is about.

use super::{audit, fill, heap, import, move_out, pick, send_back};
use crate::plan::{assert_no_scans, steps};

#[tokio::test]
async fn no_statement_of_the_heap_goes_through_a_table() {
    assert_no_scans(&[heap::RECORD, heap::FORGET, heap::CONFIRM, heap::RELEASE]).await;
    assert_no_scans(&[heap::DRAIN_COUNT, heap::DRAIN_AGE, heap::EXCEEDS]).await;
    assert_no_scans(&[heap::HAS_OLD, heap::PURGE]).await;
}

#[tokio::test]
async fn no_statement_that_moves_a_message_goes_through_a_table() {
    assert_no_scans(&[move_out::OUTBOX, move_out::QUEUE, move_out::OUTBOX_BODY]).await;
    assert_no_scans(&[
        move_out::QUEUE_BODY,
        move_out::LEAVE_QUEUE,
        move_out::COUNT_LEFT,
    ])
    .await;
    assert_no_scans(&[send_back::FIND, send_back::IN_OUTBOX, send_back::IN_QUEUE]).await;
    assert_no_scans(&[send_back::TO_OUTBOX, send_back::TO_QUEUE, send_back::COUNT]).await;
    assert_no_scans(&[send_back::FORGET, send_back::REMEMBER, pick::REMOVE]).await;
    assert_no_scans(&[import::KNOWN, import::KNOWN_UNREADABLE]).await;
    assert_no_scans(&[fill::UNKNOWN, fill::FILL, audit::RECORD, audit::READ]).await;
}

#[tokio::test]
async fn a_fingerprint_is_filled_in_by_the_number_of_its_letter() {
    let steps = steps(fill::FILL).await;
    let by_number = "SEARCH outbox_quarantine USING INTEGER PRIMARY KEY (rowid=?)";
    assert_eq!(steps.last().map(String::as_str), Some(by_number));
}

#[tokio::test]
async fn entries_of_the_heap_are_found_by_their_whole_names() {
    let by_name = "SEARCH outbox_failures USING PRIMARY KEY (origin=? AND id=?)";
    for sql in [heap::FORGET, heap::CONFIRM, heap::RELEASE, heap::PURGE] {
        let steps = steps(sql).await;
        assert_eq!(steps.first().map(String::as_str), Some(by_name), "{sql}");
    }
}
