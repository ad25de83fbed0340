use std::sync::Arc;
use std::time::Duration;

use super::harness::{QueueCapabilities, QueueHarness};
use super::scene::{
    LEASE, RIVAL, START, Scene, WORKER, failure, id, id_range, ids, only, retry, sorted_ids,
};
use super::table::QueueCase;
use crate::delivery::Delivery;
use crate::error::Result;
use crate::id::WorkerId;
use crate::ports::{DeliveryOutcome, Queue, RecoverRequest};
use crate::testing::kit::{CaseResult, Requirement, case};
use crate::time::Timestamp;

pub(super) const CASES: &[QueueCase] = &[
    case!("6", what_a_dead_worker_held_is_taken_over),
    case!("6", live_work_is_never_taken_away),
    case!("6", what_is_extended_is_not_taken_away),
    case!("6", recovery_takes_what_is_held_and_nothing_else),
    case!(
        "8.5",
        busy_entries_at_the_head_hide_none_of_a_thousand_stuck_ones
    ),
    case!("8.5", recovery_takes_no_more_than_max),
    case!("6", a_worker_may_take_over_what_it_let_go),
    case!("6", what_was_taken_over_is_held_for_a_lease_of_its_own),
    case!("8.4", recoveries_side_by_side_share_no_entry),
    case!("8.8", attempts_and_the_last_failure_survive_a_takeover),
    case!("6", an_entry_lost_again_and_again_is_taken_over_each_time),
    case!("8.8", takeovers_are_counted_and_told, COUNTS_TAKEOVERS),
    case!(
        "8.8",
        a_delay_leaves_the_count_of_takeovers_alone,
        COUNTS_TAKEOVERS
    ),
    case!(
        "8.8",
        a_settled_failure_ends_the_count_of_takeovers,
        COUNTS_TAKEOVERS
    ),
    case!("6", recovery_of_an_empty_queue_finds_nothing),
];

const COUNTS_TAKEOVERS: Requirement<QueueCapabilities> = Requirement {
    what: "needs a queue that counts takeovers",
    met: |capabilities| capabilities.counts_takeovers,
};

async fn what_a_dead_worker_held_is_taken_over(harness: &dyn QueueHarness) -> CaseResult {
    let mut scene = Scene::holding(harness, 0..3).await?;
    let held = scene.dequeue(WORKER, 10, START).await?;
    scene.queue = scene.store.open().await?;
    let taken = scene.recover(RIVAL, 10, START + LEASE).await?.deliveries;
    assert_eq!(sorted_ids(&taken), sorted_ids(&held));
    assert!(taken.iter().all(|delivery| delivery.receipt.owner == RIVAL));
    assert_eq!(scene.done(&taken, START + LEASE).await?.settled, 3);
    Ok(())
}

async fn live_work_is_never_taken_away(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..3).await?;
    let held = scene.dequeue(WORKER, 10, START).await?;
    let just_before = START + LEASE - Duration::from_millis(1);
    for owner in [RIVAL, WORKER] {
        assert_eq!(scene.recover(owner, 10, just_before).await?.deliveries, []);
    }
    assert_eq!(scene.done(&held, just_before).await?.settled, 3);
    Ok(())
}

async fn what_is_extended_is_not_taken_away(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..3).await?;
    let held = scene.dequeue(WORKER, 10, START).await?;
    let receipts: Vec<_> = held.iter().map(|delivery| delivery.receipt).collect();
    for beat in 1..20 {
        let now = START + beat * LEASE / 3;
        assert_eq!(scene.queue.extend(&receipts, LEASE, now).await?, []);
        assert_eq!(scene.recover(RIVAL, 10, now).await?.deliveries, []);
    }
    let end = START + 19 * LEASE / 3;
    assert_eq!(scene.done(&held, end).await?.settled, 3);
    Ok(())
}

async fn recovery_takes_what_is_held_and_nothing_else(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..4).await?;
    let held = scene.dequeue(WORKER, 3, START).await?;
    scene.done(&held[..1], START).await?;
    let due_at = START + 10 * LEASE;
    let again = retry(START, "busy", due_at);
    scene.settle(held[1].receipt, again, START).await?;
    let taken = scene.recover(RIVAL, 10, START + LEASE).await?.deliveries;
    assert_eq!(ids(&taken), [held[2].message.id]);
    Ok(())
}

async fn busy_entries_at_the_head_hide_none_of_a_thousand_stuck_ones(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..1_050).await?;
    let busy = scene.dequeue(WORKER, 50, START).await?;
    let busy: Vec<_> = busy.iter().map(|delivery| delivery.receipt).collect();
    let dead = WorkerId::from_bytes([9; 16]);
    let stuck = scene.drain(dead, START).await?;
    let now = START + LEASE;
    assert_eq!(scene.queue.extend(&busy, LEASE, now).await?, []);

    let mut taken = Vec::new();
    for _ in 0..40 {
        taken.extend(scene.recover(RIVAL, 100, now).await?.deliveries);
    }
    assert_eq!(stuck.len(), 1_000);
    assert_eq!(sorted_ids(&taken), sorted_ids(&stuck));
    assert_eq!(scene.queue.extend(&busy, LEASE, now).await?, []);
    Ok(())
}

async fn recovery_takes_no_more_than_max(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..7).await?;
    scene.dequeue(WORKER, 10, START).await?;
    let mut taken = Vec::new();
    for _ in 0..7 {
        let part = scene.recover(RIVAL, 3, START + LEASE).await?.deliveries;
        assert!(part.len() <= 3, "{}", part.len());
        taken.extend(part);
    }
    assert_eq!(sorted_ids(&taken), id_range(0..7));
    Ok(())
}

async fn a_worker_may_take_over_what_it_let_go(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let before = scene.dequeue_one(START).await?;
    let now = START + LEASE;
    let after = only(scene.recover(WORKER, 10, now).await?.deliveries)?;
    let report = scene.done(&[before, after], now).await?;
    assert_eq!((report.settled, report.lost), (1, vec![0]));
    Ok(())
}

async fn what_was_taken_over_is_held_for_a_lease_of_its_own(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    scene.dequeue_one(START).await?;
    let takeover = RecoverRequest {
        owner: RIVAL,
        max: 1,
        lease: 3 * LEASE,
        now: START + LEASE,
    };
    only(scene.queue.recover_stuck(&takeover).await?.deliveries)?;
    let just_before = START + 4 * LEASE - Duration::from_millis(1);
    assert_eq!(scene.recover(WORKER, 1, just_before).await?.deliveries, []);
    only(
        scene
            .recover(WORKER, 1, START + 4 * LEASE)
            .await?
            .deliveries,
    )?;
    Ok(())
}

/// What twenty recoveries by `owner` find, one after the other.
async fn recover_all(queue: Arc<dyn Queue>, owner: WorkerId) -> Result<Vec<Delivery>> {
    let request = RecoverRequest {
        owner,
        max: 9,
        lease: LEASE,
        now: START + LEASE,
    };
    let mut mine = Vec::new();
    for _ in 0..20 {
        mine.extend(queue.recover_stuck(&request).await?.deliveries);
        tokio::task::yield_now().await;
    }
    Ok(mine)
}

async fn recoveries_side_by_side_share_no_entry(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..100).await?;
    scene.drain(WORKER, START).await?;
    let mut recoveries = tokio::task::JoinSet::new();
    for number in 10..14 {
        let owner = WorkerId::from_bytes([number; 16]);
        recoveries.spawn(recover_all(scene.store.open().await?, owner));
    }
    let mut all = Vec::new();
    for mine in recoveries.join_all().await {
        all.extend(mine?);
    }
    assert_eq!(sorted_ids(&all), id_range(0..100));
    Ok(())
}

async fn attempts_and_the_last_failure_survive_a_takeover(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    for _ in 0..2 {
        let delivery = scene.dequeue_one(START).await?;
        let again = retry(START, "no reply", START);
        assert!(scene.settle(delivery.receipt, again, START).await?);
    }
    scene.dequeue_one(START).await?;
    let taken = only(scene.recover(RIVAL, 10, START + LEASE).await?.deliveries)?;
    assert!(taken.attempt >= 3, "attempt {}", taken.attempt);
    assert_eq!(taken.last_failure, Some(failure(START, "no reply").into()));
    Ok(())
}

async fn an_entry_lost_again_and_again_is_taken_over_each_time(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    scene.dequeue_one(START).await?;
    for life in 1..30_u8 {
        let owner = WorkerId::from_bytes([100 + life; 16]);
        let now = START + u32::from(life) * LEASE;
        let taken = only(scene.recover(owner, 10, now).await?.deliveries)?;
        assert_eq!((taken.message.id, taken.receipt.owner), (id(0), owner));
    }
    Ok(())
}

async fn recovery_of_an_empty_queue_finds_nothing(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let report = scene.recover(WORKER, 10, START).await?;
    assert_eq!(report, Default::default());
    Ok(())
}

/// What [`RIVAL`] takes over at `now`, in queue order: the number of takeovers of each.
async fn taken_over(scene: &Scene, now: Timestamp) -> Result<(Vec<Delivery>, Vec<u32>)> {
    let taken = scene.recover(RIVAL, 10, now).await?.deliveries;
    let counts = taken.iter().map(|delivery| delivery.takeovers).collect();
    Ok((taken, counts))
}

async fn takeovers_are_counted_and_told(harness: &dyn QueueHarness) -> CaseResult {
    let mut scene = Scene::holding(harness, 0..3).await?;
    let held = scene.dequeue(WORKER, 10, START).await?;
    assert!(held.iter().all(|delivery| delivery.takeovers == 0));
    // One of them is extended, so that it is taken over later than the others.
    let middle = [held[1].receipt];
    let lost = scene.queue.extend(&middle, LEASE, START + LEASE / 2);
    assert_eq!(lost.await?, []);
    let mut now = START + LEASE;
    let (_, counts) = taken_over(&scene, now).await?;
    assert_eq!(counts, [1, 1]);
    scene.queue = scene.store.open().await?;
    for times in 2..10 {
        now = now + LEASE;
        let (taken, counts) = taken_over(&scene, now).await?;
        assert_eq!(sorted_ids(&taken), id_range(0..3));
        assert_eq!(counts, [times, times - 1, times]);
        assert!(taken.iter().all(|delivery| delivery.attempt == 1));
    }
    Ok(())
}

async fn a_delay_leaves_the_count_of_takeovers_alone(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..2).await?;
    scene.dequeue(WORKER, 10, START).await?;
    let mut now = START + LEASE;
    // The first time it leaves the run that it was claimed in; after that it stands for itself.
    for times in 1..4 {
        let (taken, counts) = taken_over(&scene, now).await?;
        assert_eq!(counts, [times, times]);
        for delivery in &taken {
            let delay = DeliveryOutcome::Delay { due_at: now };
            assert!(scene.settle(delivery.receipt, delay, now).await?);
        }
        let again = scene.dequeue(WORKER, 10, now).await?;
        assert!(again.iter().all(|delivery| delivery.takeovers == times));
        now = now + LEASE;
    }
    Ok(())
}

async fn a_settled_failure_ends_the_count_of_takeovers(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    scene.dequeue(WORKER, 10, START).await?;
    let mut now = START + LEASE;
    for attempt in 1..4 {
        let (taken, counts) = taken_over(&scene, now).await?;
        assert_eq!(counts, [1]);
        let delivery = only(taken)?;
        assert_eq!(delivery.attempt, attempt);
        let again = retry(now, "busy", now);
        assert!(scene.settle(delivery.receipt, again, now).await?);
        let delivery = only(scene.dequeue(WORKER, 10, now).await?)?;
        assert_eq!((delivery.takeovers, delivery.attempt), (0, attempt + 1));
        now = now + LEASE;
    }
    Ok(())
}
