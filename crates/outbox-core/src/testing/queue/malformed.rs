use super::harness::{QueueCapabilities, QueueHarness};
use super::scene::{LEASE, RIVAL, START, Scene, WORKER, id, id_range, only, request, sorted_ids};
use super::table::QueueCase;
use crate::error::BoxError;
use crate::testing::kit::{CaseResult, Requirement, case};

const CORRUPTION: Requirement<QueueCapabilities> = Requirement {
    what: "needs a harness that can damage an entry",
    met: |capabilities| capabilities.corruption,
};

pub(super) const CASES: &[QueueCase] = &[
    case!(
        "8.6",
        a_malformed_entry_hides_none_of_its_neighbours,
        CORRUPTION
    ),
    case!(
        "8.6",
        a_malformed_entry_is_told_once_and_rests_in_quarantine,
        CORRUPTION
    ),
    case!("12.11", a_malformed_entry_aborts_no_recovery, CORRUPTION),
    case!(
        "10.5",
        a_malformed_entry_in_quarantine_hides_no_other,
        CORRUPTION
    ),
];

/// Five entries, the third of which cannot be read.
async fn with_one_malformed(harness: &dyn QueueHarness) -> Result<Scene, BoxError> {
    let scene = Scene::holding(harness, 0..5).await?;
    scene.store.corrupt(id(2)).await?;
    Ok(scene)
}

async fn a_malformed_entry_hides_none_of_its_neighbours(harness: &dyn QueueHarness) -> CaseResult {
    let scene = with_one_malformed(harness).await?;
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        let report = scene.queue.dequeue(&request(WORKER, 10, START)).await?;
        deliveries.extend(report.deliveries);
    }
    let readable = [id(0), id(1), id(3), id(4)];
    assert_eq!(sorted_ids(&deliveries), readable);
    Ok(())
}

async fn a_malformed_entry_is_told_once_and_rests_in_quarantine(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = with_one_malformed(harness).await?;
    let mut told = Vec::new();
    for _ in 0..3 {
        let report = scene.queue.dequeue(&request(WORKER, 10, START)).await?;
        scene.done(&report.deliveries, START).await?;
        told.extend(report.unreadable);
    }
    let told = only(told)?;
    assert!(!told.problem.is_empty(), "{told:?}");
    let stats = scene.queue.stats(START).await?;
    assert_eq!((stats.quarantined, stats.depth()), (1, 0));
    let record = only(scene.store.quarantined().await?)?;
    assert_eq!(
        (record.kind.as_str(), record.place),
        ("unreadable", told.place)
    );
    Ok(())
}

async fn a_malformed_entry_aborts_no_recovery(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..5).await?;
    scene.dequeue(RIVAL, 10, START).await?;
    scene.store.corrupt(id(0)).await?;
    let (mut recovered, mut told) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let report = scene.recover(WORKER, 10, START + LEASE).await?;
        recovered.extend(report.deliveries);
        told.extend(report.unreadable);
    }
    assert_eq!(sorted_ids(&recovered), id_range(1..5));
    only(told)?;
    Ok(())
}

async fn a_malformed_entry_in_quarantine_hides_no_other(harness: &dyn QueueHarness) -> CaseResult {
    let scene = with_one_malformed(harness).await?;
    scene.store.corrupt(id(4)).await?;
    for _ in 0..3 {
        let report = scene.queue.dequeue(&request(WORKER, 10, START)).await?;
        scene.done(&report.deliveries, START).await?;
    }
    assert_eq!(scene.store.quarantined().await?.len(), 2);
    Ok(())
}
