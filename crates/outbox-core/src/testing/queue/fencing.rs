use super::harness::QueueHarness;
use super::scene::{
    LEASE, RIVAL, START, Scene, WORKER, done, failure, id_range, only, retry, sorted_ids,
};
use super::table::QueueCase;
use crate::delivery::Delivery;
use crate::error::BoxError;
use crate::lease::Receipt;
use crate::ports::DeliveryOutcome;
use crate::testing::kit::{CaseResult, case};
use crate::time::Timestamp;

pub(super) const CASES: &[QueueCase] = &[
    case!("8.4", a_worker_that_lost_a_delivery_cannot_acknowledge_it),
    case!(
        "8.4",
        a_stale_receipt_neither_retries_nor_delays_nor_quarantines
    ),
    case!("8.4", lost_settlements_are_told_by_their_places),
    case!("8.4", what_was_settled_before_hides_nothing_settled_with_it),
    case!("8.4", a_delivery_is_settled_once),
    case!("8.4", a_delivery_is_settled_once_even_within_a_call),
    case!("8.4", a_receipt_of_another_owner_settles_nothing),
    case!("8.4", a_receipt_is_stale_once_its_entry_came_again),
    case!("8.4", any_handle_may_settle_what_another_delivered),
    case!("8.4", an_ended_lease_that_nobody_took_over_still_settles),
    case!("8.4", extending_lengthens_a_lease),
    case!("8.4", extending_tells_which_deliveries_are_lost),
    case!("8.4", extending_a_lost_delivery_leaves_its_new_lease_alone),
];

/// When the first lease has ended.
const EXPIRED: Timestamp = Timestamp::from_micros(START.as_micros() + 30_000_000);

/// One entry that [`WORKER`] held and [`RIVAL`] has taken over: the stale and the live delivery.
async fn taken_over(harness: &dyn QueueHarness) -> Result<(Scene, Delivery, Delivery), BoxError> {
    assert_eq!(EXPIRED, START + LEASE);
    let scene = Scene::holding(harness, 0..1).await?;
    let stale = scene.dequeue_one(START).await?;
    let live = only(scene.recover(RIVAL, 10, EXPIRED).await?.deliveries)?;
    Ok((scene, stale, live))
}

async fn a_worker_that_lost_a_delivery_cannot_acknowledge_it(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let (scene, stale, live) = taken_over(harness).await?;
    assert!(
        !scene
            .settle(stale.receipt, DeliveryOutcome::Done, EXPIRED)
            .await?
    );
    assert_eq!(scene.queue.stats(EXPIRED).await?.in_flight, 1);
    assert!(
        scene
            .settle(live.receipt, DeliveryOutcome::Done, EXPIRED)
            .await?
    );
    assert!(scene.is_empty().await?);
    Ok(())
}

async fn a_stale_receipt_neither_retries_nor_delays_nor_quarantines(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let (scene, stale, live) = taken_over(harness).await?;
    let failure = failure(EXPIRED, "late");
    let outcomes = [
        retry(EXPIRED, "late", EXPIRED),
        DeliveryOutcome::Delay { due_at: EXPIRED },
        DeliveryOutcome::Quarantine { failure },
    ];
    for outcome in outcomes {
        assert!(!scene.settle(stale.receipt, outcome, EXPIRED).await?);
    }
    assert_eq!(scene.dequeue(WORKER, 10, EXPIRED).await?, []);
    assert_eq!(scene.store.quarantined().await?, []);
    let again = retry(EXPIRED, "mine", EXPIRED);
    assert!(scene.settle(live.receipt, again, EXPIRED).await?);
    let next = scene.dequeue_one(EXPIRED).await?;
    assert_eq!(
        next.last_failure.map(|failure| failure.error),
        Some("mine".to_owned())
    );
    Ok(())
}

async fn lost_settlements_are_told_by_their_places(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..6).await?;
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    let early = [deliveries[1].clone(), deliveries[4].clone()];
    scene.done(&early, START).await?;
    let report = scene.done(&deliveries, START).await?;
    assert_eq!((report.settled, report.lost), (4, vec![1, 4]));
    assert!(scene.is_empty().await?);
    Ok(())
}

async fn what_was_settled_before_hides_nothing_settled_with_it(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..8).await?;
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    let early = [deliveries[1].clone(), deliveries[4].clone()];
    scene.done(&early, START).await?;
    assert_eq!(scene.done(&early, START).await?.lost, [0, 1]);
    let mut settling: Vec<_> = deliveries.iter().map(done).collect();
    for settlement in &mut settling[0..3] {
        settlement.outcome = retry(START, "again", START);
    }
    for settlement in &mut settling[4..6] {
        settlement.outcome = DeliveryOutcome::Delay { due_at: START };
    }
    let report = scene.queue.settle(&settling, START).await?;
    assert_eq!((report.settled, report.lost), (6, vec![1, 4]));
    let back = scene.dequeue(WORKER, 10, START).await?;
    let unsettled = [0, 2, 5].map(|at| deliveries[at].message.id);
    assert_eq!(sorted_ids(&back), unsettled);
    scene.done(&back, START).await?;
    assert!(scene.is_empty().await?);
    Ok(())
}

async fn a_delivery_is_settled_once(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    assert!(
        scene
            .settle(delivery.receipt, DeliveryOutcome::Done, START)
            .await?
    );
    assert!(
        !scene
            .settle(delivery.receipt, DeliveryOutcome::Done, START)
            .await?
    );
    let again = retry(START, "late", START);
    assert!(!scene.settle(delivery.receipt, again, START).await?);
    assert!(scene.is_empty().await?);
    Ok(())
}

async fn a_delivery_is_settled_once_even_within_a_call(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..2).await?;
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    let settlements = [&deliveries[0], &deliveries[0], &deliveries[1]].map(done);
    let report = scene.queue.settle(&settlements, START).await?;
    assert_eq!((report.settled, report.lost), (2, vec![1]));
    Ok(())
}

async fn a_receipt_of_another_owner_settles_nothing(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    let forged = Receipt {
        owner: RIVAL,
        ..delivery.receipt
    };
    assert!(!scene.settle(forged, DeliveryOutcome::Done, START).await?);
    assert_eq!(scene.queue.extend(&[forged], LEASE, START).await?, [forged]);
    assert!(
        scene
            .settle(delivery.receipt, DeliveryOutcome::Done, START)
            .await?
    );
    Ok(())
}

async fn a_receipt_is_stale_once_its_entry_came_again(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let first = scene.dequeue_one(START).await?;
    let again = retry(START, "busy", START);
    assert!(scene.settle(first.receipt, again, START).await?);
    let second = scene.dequeue_one(START).await?;
    assert!(
        !scene
            .settle(first.receipt, DeliveryOutcome::Done, START)
            .await?
    );
    assert!(
        scene
            .settle(second.receipt, DeliveryOutcome::Done, START)
            .await?
    );
    Ok(())
}

async fn any_handle_may_settle_what_another_delivered(harness: &dyn QueueHarness) -> CaseResult {
    let mut scene = Scene::holding(harness, 0..2).await?;
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    scene.queue = scene.store.open().await?;
    let lost = scene
        .queue
        .extend(&[deliveries[0].receipt], LEASE, START)
        .await?;
    assert_eq!(lost, []);
    assert_eq!(scene.done(&deliveries, START).await?.settled, 2);
    Ok(())
}

async fn an_ended_lease_that_nobody_took_over_still_settles(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    let later = EXPIRED + LEASE;
    assert!(
        scene
            .settle(delivery.receipt, DeliveryOutcome::Done, later)
            .await?
    );
    assert!(scene.is_empty().await?);
    Ok(())
}

async fn extending_lengthens_a_lease(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..2).await?;
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    let receipts: Vec<_> = deliveries.iter().map(|d| d.receipt).collect();
    let halfway = START + LEASE / 2;
    assert_eq!(
        scene.queue.extend(&receipts[..1], LEASE, halfway).await?,
        []
    );
    let taken = scene.recover(RIVAL, 10, EXPIRED).await?.deliveries;
    assert_eq!(only(taken)?.message.id, deliveries[1].message.id);
    let taken = scene.recover(RIVAL, 10, halfway + LEASE).await?.deliveries;
    assert_eq!(only(taken)?.message.id, deliveries[0].message.id);
    Ok(())
}

async fn extending_tells_which_deliveries_are_lost(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..4).await?;
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    let receipts: Vec<_> = deliveries.iter().map(|d| d.receipt).collect();
    scene.done(&deliveries[..1], START).await?;
    let held = [receipts[1], receipts[3]];
    assert_eq!(scene.queue.extend(&held, 2 * LEASE, START).await?, []);
    only(scene.recover(RIVAL, 10, EXPIRED).await?.deliveries)?;
    let lost = scene.queue.extend(&receipts, LEASE, EXPIRED).await?;
    assert_eq!(lost, [receipts[0], receipts[2]]);
    Ok(())
}

async fn extending_a_lost_delivery_leaves_its_new_lease_alone(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let (scene, stale, live) = taken_over(harness).await?;
    let lost = scene
        .queue
        .extend(&[stale.receipt], 100 * LEASE, EXPIRED)
        .await?;
    assert_eq!(lost, [stale.receipt]);
    let third = scene.recover(WORKER, 10, EXPIRED + LEASE).await?.deliveries;
    assert_eq!(sorted_ids(&third), id_range(0..1));
    assert!(
        !scene
            .settle(live.receipt, DeliveryOutcome::Done, EXPIRED + LEASE)
            .await?
    );
    Ok(())
}
