use std::collections::BTreeSet;

use outbox_core::testing::{CaseResult, cut};

use super::given::{LEASE, START, after, drain};
use super::harness::DlqHarness;
use super::heap::id;
use super::scene::any_side;
use super::table::{DlqCase, case};
use crate::DrainRequest;

pub(super) const CASES: &[DlqCase] = &[
    case!(
        "10.1",
        a_drain_answers_what_reached_the_threshold_and_nothing_else
    ),
    case!("10.1", a_drain_answers_what_has_been_failing_for_too_long),
    case!("10.1", a_drain_is_bounded_and_the_worst_come_first),
    case!("12.18", a_drained_entry_is_claimed_until_its_lease_ends),
    case!("12.18", a_confirmed_entry_is_forgotten),
    case!("10.2", a_released_entry_is_drained_again),
    case!("12.18", a_stale_claim_confirms_and_releases_nothing),
    case!(
        "12.18",
        an_entry_that_failed_anew_is_not_confirmed_by_an_old_claim
    ),
    case!("10.1", failures_of_a_claimed_entry_are_counted_on),
    case!("10.1", a_success_forgets_a_claimed_entry),
    case!("10.1", of_many_drains_at_once_each_entry_goes_to_one),
    case!("7.2", what_a_dropped_drain_has_claimed_comes_back),
];

async fn a_drain_answers_what_reached_the_threshold_and_nothing_else(
    harness: &dyn DlqHarness,
) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1)], START).await?;
    scene.count(&[id(2), id(2)], START).await?;
    scene.count(&[id(3), id(3), id(3)], START).await?;
    let drained = scene.heap.drain_exceeded(&drain(2, START)).await?;
    let ids: BTreeSet<_> = drained.iter().map(|entry| entry.subject.id).collect();
    assert_eq!(ids, [id(2), id(3)].into());
    Ok(())
}

async fn a_drain_answers_what_has_been_failing_for_too_long(
    harness: &dyn DlqHarness,
) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1)], START).await?;
    scene.count(&[id(1)], after(9)).await?;
    scene.count(&[id(2)], after(5)).await?;
    let request = |since| DrainRequest {
        failing_since: Some(since),
        ..drain(10, after(9))
    };
    assert!(scene.heap.drain_exceeded(&request(START)).await?.is_empty());
    let drained = scene.heap.drain_exceeded(&request(after(5))).await?;
    assert_eq!((drained.len(), drained[0].subject.id), (1, id(1)));
    Ok(())
}

async fn a_drain_is_bounded_and_the_worst_come_first(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    for number in 1..=5 {
        scene
            .count(&vec![id(number); usize::from(number)], START)
            .await?;
    }
    let request = DrainRequest {
        max: 2,
        failing_since: Some(after(1)),
        ..drain(1, START)
    };
    let mut counts = Vec::new();
    for _ in 0..4 {
        let drained = scene.heap.drain_exceeded(&request).await?;
        assert!(drained.len() <= 2);
        counts.extend(drained.iter().map(|entry| entry.failures));
    }
    assert_eq!(counts, [5, 4, 3, 2, 1]);
    Ok(())
}

async fn a_drained_entry_is_claimed_until_its_lease_ends(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1)], START).await?;
    let first = scene.heap.drain_exceeded(&drain(1, START)).await?;
    assert_eq!(first.len(), 1);
    let other = scene.store.heap().await?;
    for now in [START, START + LEASE / 2] {
        assert!(other.drain_exceeded(&drain(1, now)).await?.is_empty());
    }
    let again = other.drain_exceeded(&drain(1, START + LEASE)).await?;
    assert_eq!((again.len(), again[0].failures), (1, 1));
    assert_ne!(again[0].claim, first[0].claim);
    Ok(())
}

async fn a_confirmed_entry_is_forgotten(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1), id(2)], START).await?;
    let drained = scene.heap.drain_exceeded(&drain(1, START)).await?;
    assert_eq!(scene.heap.confirm(&drained[..1]).await?, 1);
    assert_eq!(scene.heap.confirm(&drained).await?, 1);
    assert_eq!(scene.heap.stats(START).await?.entries, 0);
    Ok(())
}

async fn a_released_entry_is_drained_again(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1)], START).await?;
    let drained = scene.heap.drain_exceeded(&drain(1, START)).await?;
    assert_eq!(scene.heap.release(&drained).await?, 1);
    assert_eq!(scene.heap.release(&drained).await?, 0);
    assert_eq!(scene.heap.drain_exceeded(&drain(1, START)).await?.len(), 1);
    Ok(())
}

async fn a_stale_claim_confirms_and_releases_nothing(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1)], START).await?;
    let stale = scene.heap.drain_exceeded(&drain(1, START)).await?;
    let now = START + LEASE;
    let live = scene.heap.drain_exceeded(&drain(1, now)).await?;
    assert_eq!(scene.heap.confirm(&stale).await?, 0);
    assert_eq!(scene.heap.release(&stale).await?, 0);
    assert!(scene.heap.drain_exceeded(&drain(1, now)).await?.is_empty());
    assert_eq!(scene.heap.confirm(&live).await?, 1);
    Ok(())
}

async fn an_entry_that_failed_anew_is_not_confirmed_by_an_old_claim(
    harness: &dyn DlqHarness,
) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1)], START).await?;
    let old = scene.heap.drain_exceeded(&drain(1, START)).await?;
    scene.heap.record_success(&scene.subject(id(1))).await?;
    scene.count(&[id(1)], after(1)).await?;
    let new = scene.heap.drain_exceeded(&drain(1, after(1))).await?;
    assert_eq!(scene.heap.confirm(&old).await?, 0);
    assert_eq!(scene.heap.confirm(&new).await?, 1);
    Ok(())
}

async fn failures_of_a_claimed_entry_are_counted_on(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1)], START).await?;
    let drained = scene.heap.drain_exceeded(&drain(1, START)).await?;
    scene.count(&[id(1)], after(1)).await?;
    assert!(
        scene
            .heap
            .drain_exceeded(&drain(1, after(1)))
            .await?
            .is_empty()
    );
    scene.heap.release(&drained).await?;
    let again = scene.heap.drain_exceeded(&drain(1, after(1))).await?;
    assert_eq!(again[0].failures, 2);
    Ok(())
}

async fn a_success_forgets_a_claimed_entry(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    scene.count(&[id(1)], START).await?;
    let drained = scene.heap.drain_exceeded(&drain(1, START)).await?;
    scene.heap.record_success(&scene.subject(id(1))).await?;
    assert_eq!(scene.heap.confirm(&drained).await?, 0);
    let later = scene.heap.drain_exceeded(&drain(1, START + LEASE)).await?;
    assert!(later.is_empty(), "{later:?}");
    Ok(())
}

async fn of_many_drains_at_once_each_entry_goes_to_one(harness: &dyn DlqHarness) -> CaseResult {
    let scene = any_side(harness).await?;
    let ids: Vec<_> = (1..=50).map(id).collect();
    scene.count(&ids, START).await?;
    let mut drains = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let heap = scene.store.heap().await?;
        drains.spawn(async move { heap.drain_exceeded(&drain(1, START)).await });
    }
    let mut drained = Vec::new();
    for entries in drains.join_all().await {
        drained.extend(entries?.into_iter().map(|entry| entry.subject.id));
    }
    drained.sort();
    assert_eq!(drained, ids);
    Ok(())
}

async fn what_a_dropped_drain_has_claimed_comes_back(harness: &dyn DlqHarness) -> CaseResult {
    for polls in 0.. {
        let scene = any_side(harness).await?;
        scene.count(&[id(1)], START).await?;
        let request = drain(1, START);
        let finished = cut(scene.heap.drain_exceeded(&request), polls).await;
        let later = scene.heap.drain_exceeded(&drain(1, START + LEASE)).await?;
        assert_eq!(later.len(), 1, "after {polls} polls");
        if finished.is_some() {
            break;
        }
    }
    Ok(())
}
