use std::time::Duration;

use super::harness::QueueHarness;
use super::scene::{START, Scene, WINDOW, WORKER, id_range, message, messages, sorted_ids};
use super::table::QueueCase;
use crate::message::Message;
use crate::ports::Enqueued::{Added, Duplicate};
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[QueueCase] = &[
    case!("8.1", enqueuing_again_adds_nothing),
    case!("8.1", a_repeated_id_in_one_call_is_added_once),
    case!("8.1", the_first_message_of_an_id_is_the_one_delivered),
    case!("12.9", a_known_id_fails_no_other_message_of_its_batch),
    case!(
        "8.1",
        resending_a_batch_after_a_lost_reply_adds_no_second_copy
    ),
    case!("8.1", an_id_stays_known_after_its_entry_was_settled),
    case!("8.1", an_id_stays_known_while_its_entry_is_in_flight),
    case!("9.2", an_id_is_forgotten_when_the_window_ends),
    case!("8.1", senders_side_by_side_add_each_id_once),
];

async fn enqueuing_again_adds_nothing(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    assert_eq!(scene.enqueue(&[message(1)]).await?, [Added]);
    assert_eq!(scene.enqueue(&[message(1)]).await?, [Duplicate]);
    scene.dequeue_one(START).await?;
    Ok(())
}

async fn a_repeated_id_in_one_call_is_added_once(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let batch = [message(1), message(2), message(1), message(1)];
    let results = scene.enqueue(&batch).await?;
    assert_eq!(results, [Added, Added, Duplicate, Duplicate]);
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    assert_eq!(sorted_ids(&deliveries), id_range(1..3));
    Ok(())
}

async fn the_first_message_of_an_id_is_the_one_delivered(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let other_payload = Message {
        payload: "another".into(),
        ..message(1)
    };
    scene.enqueue(&[message(1), other_payload.clone()]).await?;
    scene.enqueue(&[other_payload]).await?;
    assert_eq!(*scene.dequeue_one(START).await?.message, message(1));
    Ok(())
}

async fn a_known_id_fails_no_other_message_of_its_batch(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 1..2).await?;
    let results = scene.enqueue(&messages(0..3)).await?;
    assert_eq!(results, [Added, Duplicate, Added]);
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    assert_eq!(sorted_ids(&deliveries), id_range(0..3));
    Ok(())
}

async fn resending_a_batch_after_a_lost_reply_adds_no_second_copy(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    let batch = messages(0..500);
    drop(scene.queue.enqueue(&batch).await);
    scene.queue = scene.store.open().await?;
    let results = scene.enqueue(&batch).await?;
    assert!(results.iter().all(|result| *result == Duplicate));
    let deliveries = scene.drain(WORKER, START).await?;
    assert_eq!(sorted_ids(&deliveries), id_range(0..500));
    Ok(())
}

async fn an_id_stays_known_after_its_entry_was_settled(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    scene.done(&[delivery], START).await?;
    scene.clock.advance(WINDOW - Duration::from_millis(1));
    assert_eq!(scene.enqueue(&[message(0)]).await?, [Duplicate]);
    assert!(scene.is_empty().await?);
    Ok(())
}

async fn an_id_stays_known_while_its_entry_is_in_flight(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    scene.dequeue_one(START).await?;
    assert_eq!(scene.enqueue(&[message(0)]).await?, [Duplicate]);
    assert_eq!(scene.dequeue(WORKER, 10, START).await?, []);
    Ok(())
}

async fn an_id_is_forgotten_when_the_window_ends(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    scene.done(&[delivery], START).await?;
    scene.clock.advance(2 * WINDOW);
    assert_eq!(scene.enqueue(&[message(0)]).await?, [Added]);
    assert_eq!(*scene.dequeue_one(START).await?.message, message(0));
    Ok(())
}

async fn senders_side_by_side_add_each_id_once(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let queue = scene.store.open().await?;
        senders.spawn(async move { queue.enqueue(&messages(0..50)).await });
    }
    let mut added = 0;
    for results in senders.join_all().await {
        for result in results {
            added += u32::from(result? == Added);
        }
    }
    assert_eq!(added, 50);
    let deliveries = scene.drain(WORKER, START).await?;
    assert_eq!(sorted_ids(&deliveries), id_range(0..50));
    Ok(())
}
