use std::sync::Arc;

use outbox_core::id::MessageId;
use outbox_core::testing::CaseResult;

use super::given::{START, after, drain};
use super::harness::DlqHarness;
use super::scene::any_side;
use super::table::{DlqCase, case};
use crate::{Origin, Subject};

pub(super) const CASES: &[DlqCase] = &[
    case!("10.1", a_failure_is_counted_with_its_kind_and_text),
    case!("10.1", failures_of_different_subjects_are_counted_apart),
    case!("10.1", the_same_subject_twice_in_a_call_is_counted_twice),
    case!("10.1", failures_recorded_at_once_are_all_counted),
    case!("10.1", a_success_forgets_the_count),
    case!("10.1", recording_nothing_does_nothing),
    case!("10.1", counts_survive_reopening),
    case!("10.1", the_heap_counts_what_it_holds),
    case!("10.1", purging_forgets_what_has_not_failed_for_long),
    case!("12.18", purging_spares_what_is_claimed),
];

/// The id of message `number`.
pub(super) fn id(number: u8) -> MessageId {
    MessageId::from_bytes([number; 16])
}

async fn a_failure_is_counted_with_its_kind_and_text(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    scene
        .heap
        .record_failure(&scene.failure(id(1), START))
        .await?;
    let mut second = scene.failure(id(1), after(5));
    (second.kind, second.error) = ("refused".to_owned(), "no \u{1F4A9} \"today\"".to_owned());
    scene.heap.record_failure(&second).await?;
    let drained = scene.heap.drain_exceeded(&drain(2, after(5))).await?;
    let [entry] = &drained[..] else {
        return Err(format!("one entry: {drained:?}").into());
    };
    assert_eq!(entry.subject, scene.subject(id(1)));
    assert_eq!((entry.failures, entry.first_failed_at), (2, START));
    assert_eq!(entry.last_failed_at, after(5));
    assert_eq!((&entry.kind, &entry.error), (&second.kind, &second.error));
    Ok(())
}

async fn failures_of_different_subjects_are_counted_apart(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    let mut failures = vec![scene.failure(id(1), START), scene.failure(id(2), START)];
    for origin in [Origin::Outbox, Origin::Queue("other".to_owned())] {
        let mut failure = scene.failure(id(1), START);
        failure.subject.origin = origin;
        failures.push(failure);
    }
    failures.dedup();
    scene.heap.record_failures(&failures).await?;
    assert!(
        scene
            .heap
            .drain_exceeded(&drain(2, START))
            .await?
            .is_empty()
    );
    let drained = scene.heap.drain_exceeded(&drain(1, START)).await?;
    assert_eq!(drained.len(), 4, "{drained:?}");
    Ok(())
}

async fn the_same_subject_twice_in_a_call_is_counted_twice(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1), id(2), id(1)], START).await?;
    let drained = scene.heap.drain_exceeded(&drain(2, START)).await?;
    let counts: Vec<_> = drained.iter().map(|e| (e.subject.id, e.failures)).collect();
    assert_eq!(counts, [(id(1), 2)]);
    Ok(())
}

async fn failures_recorded_at_once_are_all_counted(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let heap = scene.store.heap().await?;
        for _ in 0..8 {
            let (heap, failure) = (Arc::clone(&heap), scene.failure(id(1), START));
            tasks.spawn(async move { heap.record_failure(&failure).await });
        }
    }
    for result in tasks.join_all().await {
        result?;
    }
    let drained = scene.heap.drain_exceeded(&drain(1, START)).await?;
    assert_eq!((drained.len(), drained[0].failures), (1, 32));
    Ok(())
}

async fn a_success_forgets_the_count(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1), id(1), id(2)], START).await?;
    scene.heap.record_success(&scene.subject(id(1))).await?;
    scene.heap.record_success(&scene.subject(id(3))).await?;
    scene.count(&[id(1)], START).await?;
    assert!(
        scene
            .heap
            .drain_exceeded(&drain(2, START))
            .await?
            .is_empty()
    );
    let other = Subject {
        origin: Origin::Queue("other".to_owned()),
        id: id(2),
    };
    scene.heap.record_success(&other).await?;
    assert_eq!(scene.heap.stats(START).await?.entries, 2);
    Ok(())
}

async fn recording_nothing_does_nothing(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.heap.record_failures(&[]).await?;
    scene.heap.record_successes(&[]).await?;
    assert_eq!(scene.heap.confirm(&[]).await?, 0);
    assert_eq!(scene.heap.release(&[]).await?, 0);
    assert_eq!(scene.heap.stats(START).await?, Default::default());
    Ok(())
}

async fn counts_survive_reopening(harness: &dyn DlqHarness) -> CaseResult {
    let mut scene = any_side(harness).await?;
    scene.count(&[id(1), id(1)], START).await?;
    scene.heap = scene.store.heap().await?;
    scene.count(&[id(1)], START).await?;
    assert_eq!(scene.heap.drain_exceeded(&drain(3, START)).await?.len(), 1);
    Ok(())
}

async fn the_heap_counts_what_it_holds(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1), id(1)], after(3)).await?;
    scene.count(&[id(2)], after(1)).await?;
    scene.heap.drain_exceeded(&drain(2, after(3))).await?;
    let stats = scene.heap.stats(after(3)).await?;
    assert_eq!((stats.entries, stats.claimed), (2, 1));
    assert_eq!(stats.oldest, Some(after(1)));
    Ok(())
}

async fn purging_forgets_what_has_not_failed_for_long(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1), id(2), id(3)], START).await?;
    scene.count(&[id(3)], after(10)).await?;
    assert_eq!(scene.heap.purge(START, 10, after(20)).await?, 0);
    assert_eq!(scene.heap.purge(after(10), 1, after(20)).await?, 1);
    assert_eq!(scene.heap.purge(after(10), 10, after(20)).await?, 1);
    let drained = scene.heap.drain_exceeded(&drain(1, after(20))).await?;
    assert_eq!((drained.len(), drained[0].subject.id), (1, id(3)));
    Ok(())
}

async fn purging_spares_what_is_claimed(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1)], START).await?;
    let drained = scene.heap.drain_exceeded(&drain(1, after(10))).await?;
    assert_eq!(scene.heap.purge(after(5), 10, after(10)).await?, 0);
    assert_eq!(scene.heap.confirm(&drained).await?, 1);
    Ok(())
}
