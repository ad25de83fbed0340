use std::time::Duration;

use super::harness::QueueHarness;
use super::scene::{RIVAL, START, Scene, WORKER, failure, messages};
use super::table::QueueCase;
use crate::ports::DeliveryOutcome;
use crate::report::QueueStats;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[QueueCase] = &[
    case!("8", an_empty_queue_counts_nothing),
    case!("8", stats_count_the_entries_in_each_state),
    case!("8", a_delayed_entry_counts_as_ready_once_it_is_due),
    case!("8", the_oldest_unsettled_entry_is_told),
    case!("8", every_worker_that_holds_a_delivery_is_counted),
];

async fn an_empty_queue_counts_nothing(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    assert_eq!(scene.queue.stats(START).await?, QueueStats::default());
    Ok(())
}

async fn stats_count_the_entries_in_each_state(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..10).await?;
    let held = scene.dequeue(WORKER, 6, START).await?;
    let due_at = START + Duration::from_secs(60);
    for delivery in &held[..2] {
        let delay = DeliveryOutcome::Delay { due_at };
        scene.settle(delivery.receipt, delay, START).await?;
    }
    let outcome = DeliveryOutcome::Quarantine {
        failure: failure(START, "broken"),
    };
    scene.settle(held[2].receipt, outcome, START).await?;
    let stats = scene.queue.stats(START).await?;
    let expected = QueueStats {
        ready: 4,
        in_flight: 3,
        delayed: 2,
        quarantined: 1,
        consumers: 1,
        oldest: Some(START),
    };
    assert_eq!((stats, stats.depth()), (expected, 9));
    Ok(())
}

async fn a_delayed_entry_counts_as_ready_once_it_is_due(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    let due_at = START + Duration::from_secs(60);
    let delay = DeliveryOutcome::Delay { due_at };
    scene.settle(delivery.receipt, delay, START).await?;
    let stats = scene.queue.stats(due_at).await?;
    assert_eq!((stats.ready, stats.delayed), (1, 0));
    Ok(())
}

async fn the_oldest_unsettled_entry_is_told(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    scene.clock.advance(Duration::from_secs(60));
    scene.enqueue(&messages(1..2)).await?;
    let oldest = scene.dequeue(WORKER, 1, START).await?;
    assert_eq!(scene.queue.stats(START).await?.oldest, Some(START));
    scene.done(&oldest, START).await?;
    let now = START + Duration::from_secs(60);
    assert_eq!(scene.queue.stats(now).await?.oldest, Some(now));
    Ok(())
}

async fn every_worker_that_holds_a_delivery_is_counted(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..10).await?;
    let mine = scene.dequeue(WORKER, 2, START).await?;
    scene.dequeue(WORKER, 2, START).await?;
    scene.dequeue(RIVAL, 2, START).await?;
    assert_eq!(scene.queue.stats(START).await?.consumers, 2);
    scene.done(&mine, START).await?;
    assert_eq!(scene.queue.stats(START).await?.consumers, 2);
    Ok(())
}
