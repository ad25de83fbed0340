use std::time::Duration;

use super::harness::QueueHarness;
use super::scene::{
    LEASE, RIVAL, START, Scene, WORKER, failure, id_range, ids, message, only, retry,
};
use super::table::QueueCase;
use crate::ports::{DeliveryOutcome, DeliverySettlement};
use crate::testing::kit::{CaseResult, case};
use crate::time::Timestamp;

pub(super) const CASES: &[QueueCase] = &[
    case!("8.4", what_is_done_never_comes_again),
    case!("8.8", a_retry_counts_an_attempt_and_carries_its_failure),
    case!("8.8", attempts_add_up_and_the_last_failure_is_told),
    case!("8.8", a_retry_comes_at_its_due_time_and_not_before),
    case!("8.8", a_retry_that_is_due_already_comes_at_once),
    case!("8.7", a_delay_counts_no_attempt),
    case!("12.5", a_hundred_delays_burn_no_attempt),
    case!("8.7", a_delay_keeps_the_failures_so_far),
    case!("10.2", a_quarantined_entry_leaves_the_queue),
    case!(
        "10.4",
        a_quarantined_message_keeps_what_it_was_and_what_happened
    ),
    case!("8.4", the_outcomes_of_one_call_all_take_effect),
    case!("8.4", settling_nothing_changes_nothing),
];

async fn what_is_done_never_comes_again(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..3).await?;
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    let report = scene.done(&deliveries, START).await?;
    assert_eq!((report.settled, report.lost), (3, vec![]));
    let later = START + 10 * LEASE;
    assert_eq!(scene.dequeue(RIVAL, 10, later).await?, []);
    assert_eq!(scene.recover(RIVAL, 10, later).await?.deliveries, []);
    assert!(scene.is_empty().await?);
    Ok(())
}

async fn a_retry_counts_an_attempt_and_carries_its_failure(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let first = scene.dequeue_one(START).await?;
    let again = retry(START, "the mill is on fire", START);
    assert!(scene.settle(first.receipt, again, START).await?);
    let second = scene.dequeue_one(START).await?;
    assert_eq!(second.attempt, 2);
    assert_eq!(
        second.last_failure,
        Some(failure(START, "the mill is on fire").into())
    );
    assert_eq!(second.message, first.message);
    assert_eq!(second.enqueued_at, first.enqueued_at);
    Ok(())
}

async fn attempts_add_up_and_the_last_failure_is_told(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    for attempt in 1..=40_u32 {
        let now = START + Duration::from_secs(u64::from(attempt));
        let delivery = scene.dequeue_one(now).await?;
        assert_eq!(delivery.attempt, attempt);
        let told = delivery.last_failure.map(|failure| failure.error);
        let expected = (attempt > 1).then(|| format!("failure {}", attempt - 1));
        assert_eq!(told, expected);
        let again = retry(now, &format!("failure {attempt}"), now);
        assert!(scene.settle(delivery.receipt, again, now).await?);
    }
    Ok(())
}

async fn a_retry_comes_at_its_due_time_and_not_before(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    let due_at = START + Duration::from_secs(90);
    let again = retry(START, "busy", due_at);
    assert!(scene.settle(delivery.receipt, again, START).await?);
    let just_before = due_at - Duration::from_millis(1);
    assert_eq!(scene.dequeue(WORKER, 10, just_before).await?, []);
    assert_eq!(scene.recover(RIVAL, 10, just_before).await?.deliveries, []);
    assert_eq!(scene.dequeue_one(due_at).await?.attempt, 2);
    Ok(())
}

async fn a_retry_that_is_due_already_comes_at_once(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    let long_ago = START - Duration::from_secs(3_600);
    let again = retry(START, "busy", long_ago);
    assert!(scene.settle(delivery.receipt, again, START).await?);
    scene.dequeue_one(START).await?;
    Ok(())
}

fn delay(due_at: Timestamp) -> DeliveryOutcome {
    DeliveryOutcome::Delay { due_at }
}

async fn a_delay_counts_no_attempt(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    assert!(scene.settle(delivery.receipt, delay(START), START).await?);
    let delivery = scene.dequeue_one(START).await?;
    assert_eq!((delivery.attempt, delivery.last_failure), (1, None));
    Ok(())
}

async fn a_hundred_delays_burn_no_attempt(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    for round in 0..100 {
        let now = START + Duration::from_secs(round);
        let delivery = scene.dequeue_one(now).await?;
        let due_at = now + Duration::from_secs(1);
        assert!(scene.settle(delivery.receipt, delay(due_at), now).await?);
    }
    let delivery = scene.dequeue_one(START + Duration::from_secs(100)).await?;
    assert_eq!(delivery.attempt, 1);
    assert_eq!(scene.store.quarantined().await?, []);
    Ok(())
}

async fn a_delay_keeps_the_failures_so_far(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    let again = retry(START, "busy", START);
    assert!(scene.settle(delivery.receipt, again, START).await?);
    let delivery = scene.dequeue_one(START).await?;
    assert!(scene.settle(delivery.receipt, delay(START), START).await?);
    let delivery = scene.dequeue_one(START).await?;
    assert_eq!(delivery.attempt, 2);
    assert_eq!(delivery.last_failure, Some(failure(START, "busy").into()));
    Ok(())
}

fn quarantine(at: Timestamp, error: &str) -> DeliveryOutcome {
    DeliveryOutcome::Quarantine {
        failure: failure(at, error),
    }
}

async fn a_quarantined_entry_leaves_the_queue(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    let outcome = quarantine(START, "not a city");
    assert!(scene.settle(delivery.receipt, outcome, START).await?);
    let later = START + 10 * LEASE;
    assert_eq!(scene.dequeue(WORKER, 10, later).await?, []);
    assert_eq!(scene.recover(WORKER, 10, later).await?.deliveries, []);
    let stats = scene.queue.stats(START).await?;
    assert_eq!((stats.depth(), stats.quarantined), (0, 1));
    Ok(())
}

async fn a_quarantined_message_keeps_what_it_was_and_what_happened(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let later = START + Duration::from_secs(10);
    let first = scene.dequeue_one(START).await?;
    let again = retry(START, "no reply", START);
    assert!(scene.settle(first.receipt, again, START).await?);
    let second = scene.dequeue_one(later).await?;
    let outcome = quarantine(later, "not a city");
    assert!(scene.settle(second.receipt, outcome, later).await?);

    let record = only(scene.store.quarantined().await?)?;
    assert_eq!(record.message, Some(message(0)));
    assert_eq!(record.attempts, 2);
    assert_eq!(
        (record.first_failed_at, record.last_failed_at),
        (START, later)
    );
    assert_eq!(
        (record.kind.as_str(), record.error.as_str()),
        ("retry", "not a city")
    );
    assert!(!record.place.is_empty());
    Ok(())
}

async fn the_outcomes_of_one_call_all_take_effect(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..4).await?;
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    let due_at = START + Duration::from_secs(60);
    let outcomes = [
        DeliveryOutcome::Done,
        retry(START, "busy", due_at),
        delay(START),
        quarantine(START, "broken"),
    ];
    let pairs = deliveries.iter().zip(outcomes);
    let settlements: Vec<_> = pairs
        .map(|(delivery, outcome)| DeliverySettlement {
            receipt: delivery.receipt,
            outcome,
        })
        .collect();
    let report = scene.queue.settle(&settlements, START).await?;
    assert_eq!((report.settled, report.lost), (4, vec![]));

    let stats = scene.queue.stats(START).await?;
    assert_eq!((stats.ready, stats.delayed, stats.quarantined), (1, 1, 1));
    let delayed = scene.dequeue_one(START).await?;
    assert_eq!(delayed.message.id, deliveries[2].message.id);
    let retried = scene.dequeue_one(due_at).await?;
    assert_eq!(
        (retried.message.id, retried.attempt),
        (deliveries[1].message.id, 2)
    );
    Ok(())
}

async fn settling_nothing_changes_nothing(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..2).await?;
    let report = scene.queue.settle(&[], START).await?;
    assert_eq!((report.settled, report.lost), (0, vec![]));
    assert_eq!(scene.queue.extend(&[], LEASE, START).await?, []);
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    assert_eq!(ids(&deliveries).len(), id_range(0..2).len());
    Ok(())
}
