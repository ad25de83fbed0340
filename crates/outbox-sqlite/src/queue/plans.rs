//! No statement of the queue reads more rows than it is about, however long the backlog is.

use super::{
    at_once, dequeue, enqueue, extend, holding, look, purge, quarantine, read_out, recover, run,
    settle, stats,
};
use crate::plan::assert_no_scans;

#[tokio::test]
async fn no_statement_grows_with_the_backlog() {
    assert_no_scans(&[dequeue::OPEN, dequeue::CLOSE, look::LOOK, stats::COUNT]).await;
    assert_no_scans(&[
        enqueue::OPEN,
        enqueue::CLOSE,
        enqueue::REMEMBER,
        enqueue::ADD,
    ])
    .await;
    assert_no_scans(&[at_once::ADD, at_once::TAKE, at_once::SETTLE]).await;
    assert_no_scans(&[enqueue::REMEMBERED, enqueue::FORGET, enqueue::TAKE_BACK]).await;
    assert_no_scans(&[extend::EXTEND, extend::EXTEND_RETURNED, extend::ENTRIES]).await;
    assert_no_scans(&[extend::NARROW, extend::ADD_PART]).await;
    assert_no_scans(&[holding::OPEN, holding::RETURNED, holding::PRESENT]).await;
    assert_no_scans(&[purge::LOOK, purge::FORGET, quarantine::READ]).await;
    assert_no_scans(&[read_out::READ_RUN, read_out::READ_EACH]).await;
    assert_no_scans(&[read_out::READ_RETURNED, recover::STUCK, recover::ENDED]).await;
    assert_no_scans(&[
        recover::NEXT_TOKEN,
        recover::TOKEN,
        recover::END,
        recover::CUT,
    ])
    .await;
    assert_no_scans(&[run::MEASURE, run::MEASURE_BYTES, run::CLAIM]).await;
    assert_no_scans(&[run::TAKE_RETURNED, run::TAKE_OVER_RETURNED]).await;
    assert_no_scans(&[settle::GIVE_BACK, settle::GIVE_BACK_AGAIN, settle::DELETE]).await;
    assert_no_scans(&[settle::DELETE_RETURNED, settle::CLOSE, recover::END_EMPTY]).await;
}
