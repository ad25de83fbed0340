use std::collections::BTreeSet;

use super::harness::QueueHarness;
use super::scene::{
    LEASE, RIVAL, START, Scene, WORKER, done, id_range, messages, request, sorted_ids,
};
use super::table::QueueCase;
use crate::error::BoxError;
use crate::ports::RecoverRequest;
use crate::testing::cut::cut;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[QueueCase] = &[
    case!("7.2", a_dropped_enqueue_is_made_good_by_repeating_it),
    case!("7.2", a_dropped_dequeue_loses_nothing),
    case!("7.2", a_dropped_recovery_loses_nothing),
    case!("7.2", a_dropped_settlement_is_made_good_by_repeating_it),
];

/// How many messages the cases put at risk.
const COUNT: u64 = 5;

/// Checks that everything comes to [`RIVAL`] once every lease has ended, each exactly once.
async fn nothing_is_lost(scene: &Scene) -> CaseResult {
    let mut seen = BTreeSet::new();
    for round in 2..20 {
        let now = START + round * 2 * LEASE;
        let mut deliveries = scene.dequeue(RIVAL, 100, now).await?;
        deliveries.extend(scene.recover(RIVAL, 100, now).await?.deliveries);
        assert!(scene.done(&deliveries, now).await?.lost.is_empty());
        for id in sorted_ids(&deliveries) {
            assert!(seen.insert(id), "delivered after it was settled");
        }
        if scene.is_empty().await? {
            break;
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), id_range(0..COUNT));
    Ok(())
}

async fn a_dropped_enqueue_is_made_good_by_repeating_it(harness: &dyn QueueHarness) -> CaseResult {
    for polls in 0.. {
        let scene = Scene::new(harness).await?;
        let batch = messages(0..COUNT);
        let finished = cut(scene.queue.enqueue(&batch), polls).await;
        scene.enqueue(&batch).await?;
        nothing_is_lost(&scene).await?;
        if finished.is_some() {
            break;
        }
    }
    Ok(())
}

async fn a_dropped_dequeue_loses_nothing(harness: &dyn QueueHarness) -> CaseResult {
    for polls in 0.. {
        let scene = Scene::holding(harness, 0..COUNT).await?;
        let asked = request(WORKER, 10, START);
        let finished = cut(scene.queue.dequeue(&asked), polls).await;
        nothing_is_lost(&scene).await?;
        if finished.is_some() {
            break;
        }
    }
    Ok(())
}

async fn a_dropped_recovery_loses_nothing(harness: &dyn QueueHarness) -> CaseResult {
    for polls in 0.. {
        let scene = Scene::holding(harness, 0..COUNT).await?;
        scene.dequeue(WORKER, 10, START).await?;
        let takeover = RecoverRequest {
            owner: RIVAL,
            max: 10,
            lease: LEASE,
            now: START + LEASE,
        };
        let finished = cut(scene.queue.recover_stuck(&takeover), polls).await;
        nothing_is_lost(&scene).await?;
        if finished.is_some() {
            break;
        }
    }
    Ok(())
}

/// What a settlement is dropped after so many polls, and then repeated; whether it was done.
async fn settle_twice(scene: &Scene, polls: usize) -> Result<bool, BoxError> {
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    let settlements: Vec<_> = deliveries.iter().map(done).collect();
    let finished = cut(scene.queue.settle(&settlements, START), polls).await;
    let report = scene.queue.settle(&settlements, START).await?;
    let all_or_none = report.settled == 0 || report.settled == COUNT;
    assert!(all_or_none, "a part took effect: {report:?}");
    Ok(finished.is_some())
}

async fn a_dropped_settlement_is_made_good_by_repeating_it(
    harness: &dyn QueueHarness,
) -> CaseResult {
    for polls in 0.. {
        let scene = Scene::holding(harness, 0..COUNT).await?;
        let finished = settle_twice(&scene, polls).await?;
        assert!(scene.is_empty().await?);
        if finished {
            break;
        }
    }
    Ok(())
}
