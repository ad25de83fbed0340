use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::harness::{QueueCapabilities, QueueHarness};
use super::scene::{
    LEASE, RIVAL, START, Scene, WORKER, id, id_range, ids, message, messages, request, retry,
    sorted_ids,
};
use super::table::QueueCase;
use crate::delivery::Delivery;
use crate::error::{BoxError, Result};
use crate::id::WorkerId;
use crate::message::Message;
use crate::ports::{DeliveryOutcome, DequeueRequest, Queue};
use crate::status::Ordering;
use crate::testing::kit::{CaseResult, Requirement, case};

const COMMIT_ORDER: Requirement<QueueCapabilities> = Requirement {
    what: "needs commit order",
    met: |capabilities| capabilities.ordering == Ordering::Commit,
};

const KEY_ORDER: Requirement<QueueCapabilities> = Requirement {
    what: "needs order for each key",
    met: |capabilities| capabilities.ordering >= Ordering::PerKey,
};

pub(super) const EXPIRIES: Requirement<QueueCapabilities> = Requirement {
    what: "needs to tell when a lease ends",
    met: |capabilities| capabilities.tells_next_expiry,
};

pub(super) const CASES: &[QueueCase] = &[
    case!(
        "3.3",
        entries_come_in_the_order_in_which_they_were_enqueued,
        COMMIT_ORDER
    ),
    case!("3.3", entries_of_one_key_come_in_their_order, KEY_ORDER),
    case!("8.9", no_more_than_max_entries_are_delivered),
    case!("8.4", an_owner_is_not_given_what_it_holds),
    case!("8.4", an_entry_is_held_by_one_owner_at_a_time),
    case!("8.4", workers_side_by_side_share_no_entry),
    case!("8.4", calls_of_one_worker_share_no_entry),
    case!("8.4", each_handing_out_has_a_receipt_of_its_own),
    case!("5.3", a_delayed_entry_comes_at_its_due_time_and_not_before),
    case!("3.2", a_delayed_entry_holds_up_no_other),
    case!("12.14", many_failing_entries_at_the_head_starve_no_other),
    case!("5.3", the_next_end_of_anothers_lease_is_told, EXPIRIES),
    case!(
        "5.3",
        no_end_of_a_lease_is_told_where_nobody_else_holds_anything,
        EXPIRIES
    ),
    case!("5.3", none_is_said_to_be_held_where_one_is),
    case!("5.3", it_is_told_that_none_is_held, EXPIRIES),
];

async fn entries_come_in_the_order_in_which_they_were_enqueued(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..40).await?;
    scene.enqueue(&messages(40..100)).await?;
    let mut delivered = Vec::new();
    for _ in 0..10 {
        delivered.extend(ids(&scene.dequeue(WORKER, 10, START).await?));
    }
    assert_eq!(delivered, id_range(0..100));
    Ok(())
}

async fn entries_of_one_key_come_in_their_order(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let keyed = |number: u64| Message {
        ordering_key: Some((number % 5).to_string()),
        ..message(number)
    };
    let sent: Vec<_> = (0..100).map(keyed).collect();
    for batch in sent.chunks(7) {
        scene.enqueue(batch).await?;
    }
    let mut received = Vec::new();
    for _ in 0..10 {
        let deliveries = scene.dequeue(WORKER, 10, START).await?;
        let messages = deliveries.into_iter().map(|delivery| delivery.message);
        received.extend(messages.map(Arc::unwrap_or_clone));
    }
    for key in 0..5 {
        let key = Some(key.to_string());
        let of_key = |messages: &[Message]| -> Vec<_> {
            let of_key = messages.iter().filter(|m| m.ordering_key == key);
            of_key.map(|message| message.id).collect()
        };
        assert_eq!(of_key(&received), of_key(&sent), "key {key:?}");
    }
    Ok(())
}

async fn no_more_than_max_entries_are_delivered(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..10).await?;
    for expected in [3, 3, 3, 1, 0] {
        assert_eq!(scene.dequeue(WORKER, 3, START).await?.len(), expected);
    }
    Ok(())
}

async fn an_owner_is_not_given_what_it_holds(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..3).await?;
    assert_eq!(scene.dequeue(WORKER, 10, START).await?.len(), 3);
    assert_eq!(scene.dequeue(WORKER, 10, START + LEASE / 2).await?, []);
    Ok(())
}

async fn an_entry_is_held_by_one_owner_at_a_time(harness: &dyn QueueHarness) -> CaseResult {
    let mut scene = Scene::holding(harness, 0..3).await?;
    assert_eq!(scene.dequeue(WORKER, 10, START).await?.len(), 3);
    scene.queue = scene.store.open().await?;
    assert_eq!(scene.dequeue(RIVAL, 10, START + LEASE / 2).await?, []);
    Ok(())
}

/// What `owner` is given until nothing is left.
async fn drain(queue: Arc<dyn Queue>, owner: WorkerId) -> Result<Vec<Delivery>> {
    let mut mine = Vec::new();
    loop {
        let report = queue.dequeue(&request(owner, 7, START)).await?;
        if report.deliveries.is_empty() {
            return Ok(mine);
        }
        mine.extend(report.deliveries);
        tokio::task::yield_now().await;
    }
}

/// Lets the workers drain the queue at once, each through a handle of its own.
async fn drain_side_by_side(scene: &Scene, workers: Vec<WorkerId>) -> CaseResult {
    let mut drains = tokio::task::JoinSet::new();
    for owner in workers {
        drains.spawn(drain(scene.store.open().await?, owner));
    }
    let mut all = Vec::new();
    for mine in drains.join_all().await {
        all.extend(mine?);
    }
    assert_eq!(sorted_ids(&all), id_range(0..200));
    Ok(())
}

async fn workers_side_by_side_share_no_entry(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..200).await?;
    let workers = (10..14).map(|n| WorkerId::from_bytes([n; 16])).collect();
    drain_side_by_side(&scene, workers).await
}

async fn calls_of_one_worker_share_no_entry(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..200).await?;
    drain_side_by_side(&scene, vec![WORKER; 4]).await
}

async fn each_handing_out_has_a_receipt_of_its_own(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..5).await?;
    let mut receipts = HashSet::new();
    for _ in 0..4 {
        for delivery in scene.dequeue(WORKER, 10, START).await? {
            assert!(receipts.insert(delivery.receipt), "handed out before");
            let delay = DeliveryOutcome::Delay { due_at: START };
            scene.settle(delivery.receipt, delay, START).await?;
        }
    }
    assert_eq!(receipts.len(), 20);
    Ok(())
}

async fn a_delayed_entry_comes_at_its_due_time_and_not_before(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    let due_at = START + Duration::from_secs(60);
    let delay = DeliveryOutcome::Delay { due_at };
    assert!(scene.settle(delivery.receipt, delay, START).await?);
    let just_before = due_at - Duration::from_millis(1);
    assert_eq!(scene.dequeue(WORKER, 10, just_before).await?, []);
    scene.dequeue_one(due_at).await?;
    Ok(())
}

async fn a_delayed_entry_holds_up_no_other(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    let due_at = START + Duration::from_secs(60);
    let delay = DeliveryOutcome::Delay { due_at };
    assert!(scene.settle(delivery.receipt, delay, START).await?);
    scene.enqueue(&messages(1..3)).await?;
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    assert_eq!(sorted_ids(&deliveries), id_range(1..3));
    Ok(())
}

async fn many_failing_entries_at_the_head_starve_no_other(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..150).await?;
    let later = START + Duration::from_secs(60);
    let mut healthy = HashSet::new();
    for _ in 0..15 {
        for delivery in scene.dequeue(WORKER, 10, START).await? {
            if delivery.message.id >= id(100) {
                healthy.insert(delivery.message.id);
                scene.done(&[delivery], START).await?;
            } else {
                let again = retry(START, "poison", later);
                scene.settle(delivery.receipt, again, START).await?;
            }
        }
    }
    assert_eq!(healthy.len(), 50);
    Ok(())
}

async fn the_next_end_of_anothers_lease_is_told(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..2).await?;
    let later = START + Duration::from_secs(7);
    scene.dequeue(RIVAL, 1, START).await?;
    scene.dequeue(RIVAL, 1, later).await?;
    let report = scene.queue.dequeue(&request(WORKER, 1, later)).await?;
    assert_eq!(report.next_expiry, Some(START + LEASE));
    let report = scene.recover(WORKER, 1, later).await?;
    assert_eq!(report.next_expiry, Some(START + LEASE));
    Ok(())
}

async fn no_end_of_a_lease_is_told_where_nobody_else_holds_anything(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..2).await?;
    let theirs = scene.dequeue(RIVAL, 1, START).await?;
    scene.done(&theirs, START).await?;
    scene.dequeue(WORKER, 1, START).await?;
    let report = scene.queue.dequeue(&request(WORKER, 1, START)).await?;
    assert_eq!(report.next_expiry, None);
    Ok(())
}

async fn none_is_said_to_be_held_where_one_is(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..2).await?;
    let none_held = async || -> Result<bool, BoxError> {
        let report = scene.queue.dequeue(&request(WORKER, 1, START)).await?;
        assert_eq!(report.deliveries, []);
        Ok(report.none_held)
    };
    let theirs = scene.dequeue(RIVAL, 1, START).await?;
    let own = scene.dequeue(WORKER, 1, START).await?;
    assert!(!none_held().await?);
    scene.done(&theirs, START).await?;
    assert!(!none_held().await?, "the caller holds one itself");
    let later = DeliveryOutcome::Delay { due_at: START };
    scene.settle(own[0].receipt, later, START).await?;
    let own = scene.dequeue(WORKER, 1, START).await?;
    assert!(!none_held().await?, "one that came back");
    let ended = START + 2 * LEASE;
    let report = scene.queue.dequeue(&request(WORKER, 1, ended)).await?;
    assert!(!report.none_held, "its lease has ended");
    assert_eq!(
        scene.recover(RIVAL, 1, ended).await?.deliveries.len(),
        own.len()
    );
    Ok(())
}

async fn it_is_told_that_none_is_held(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let own = scene.dequeue(WORKER, 1, START).await?;
    scene.done(&own, START).await?;
    let report = scene.queue.dequeue(&request(WORKER, 1, START)).await?;
    assert!(report.none_held);
    let wait = Duration::from_millis(20);
    let patient = DequeueRequest {
        wait,
        ..request(WORKER, 1, START)
    };
    assert!(scene.queue.dequeue(&patient).await?.none_held);
    Ok(())
}
