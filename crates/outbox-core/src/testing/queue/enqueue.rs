use super::harness::QueueHarness;
use super::scene::{START, Scene, WORKER, id, id_range, message, messages, only, sorted_ids};
use super::table::QueueCase;
use crate::lease::{Epoch, Sequence};
use crate::message::{Aggregate, Kind, Message, RetryOverride};
use crate::ports::Enqueued;
use crate::testing::kit::{CaseResult, case};
use std::time::Duration;

pub(super) const CASES: &[QueueCase] = &[
    case!(
        "8.3",
        what_was_enqueued_before_the_first_worker_is_delivered
    ),
    case!("4.10", a_message_comes_out_as_it_went_in),
    case!("4.3", sequence_and_epoch_travel_with_the_message),
    case!("2.2", payloads_of_any_bytes_and_sizes_come_out_unchanged),
    case!("8.1", enqueuing_answers_one_result_for_each_message),
    case!("8.1", enqueuing_nothing_does_nothing),
    case!("8.3", a_delivery_tells_when_it_was_enqueued),
];

async fn what_was_enqueued_before_the_first_worker_is_delivered(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let mut scene = Scene::holding(harness, 0..200).await?;
    scene.queue = scene.store.open().await?;
    let deliveries = scene.drain(WORKER, START).await?;
    assert_eq!(sorted_ids(&deliveries), id_range(0..200));
    Ok(())
}

fn rich_message() -> Message {
    Message {
        kind: Kind {
            name: "order.placed".to_owned(),
            version: 3,
        },
        ordering_key: Some("order-7 \u{1f980}".to_owned()),
        content_type: "application/json".to_owned(),
        headers: [
            ("correlation-id", "c-1"),
            ("tenant-id", ""),
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
            ("an odd name", "line\nbreak, \"quotes\" and \u{fffd}"),
        ]
        .into_iter()
        .collect(),
        aggregate: Some(Aggregate {
            type_name: "order".to_owned(),
            id: "7".to_owned(),
            version: 12,
        }),
        created_at: START - Duration::from_micros(1_234_567),
        due_at: START - Duration::from_micros(1),
        retry: Some(RetryOverride {
            max_attempts: Some(3),
            base: Some(Duration::from_millis(250)),
            cap: None,
        }),
        ..message(1)
    }
}

async fn a_message_comes_out_as_it_went_in(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let sent = rich_message();
    scene.enqueue(std::slice::from_ref(&sent)).await?;
    let delivery = scene.dequeue_one(START).await?;
    assert_eq!(*delivery.message, sent);
    assert_eq!((delivery.attempt, delivery.last_failure), (1, None));
    assert_eq!(delivery.receipt.owner, WORKER);
    Ok(())
}

async fn sequence_and_epoch_travel_with_the_message(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let sent = Message {
        sequence: Sequence(9_007_199_254_740_993),
        epoch: Epoch(77),
        ..message(1)
    };
    scene.enqueue(&[sent]).await?;
    let received = scene.dequeue_one(START).await?.message;
    assert_eq!(received.sequence, Sequence(9_007_199_254_740_993));
    assert_eq!(received.epoch, Epoch(77));
    Ok(())
}

async fn payloads_of_any_bytes_and_sizes_come_out_unchanged(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    for (number, size) in [0, 1, 256, 65_537, 1 << 20].into_iter().enumerate() {
        let payload: Vec<u8> = (0..size).map(|place: u32| (place % 256) as u8).collect();
        let sent = Message {
            payload: payload.into(),
            ..message(number as u64)
        };
        scene.enqueue(std::slice::from_ref(&sent)).await?;
        let deliveries = scene.dequeue(WORKER, 10, START).await?;
        assert!(*only(deliveries)?.message == sent, "{size} bytes");
    }
    Ok(())
}

async fn enqueuing_answers_one_result_for_each_message(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let results = scene.enqueue(&messages(0..1_500)).await?;
    assert!(results.iter().all(|result| *result == Enqueued::Added));
    assert_eq!(scene.queue.stats(START).await?.ready, 1_500);
    Ok(())
}

async fn enqueuing_nothing_does_nothing(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    assert_eq!(scene.enqueue(&[]).await?, []);
    assert!(scene.is_empty().await?);
    Ok(())
}

async fn a_delivery_tells_when_it_was_enqueued(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    scene.clock.advance(Duration::from_secs(5));
    scene.enqueue(&[message(1)]).await?;
    for delivery in scene.dequeue(WORKER, 10, START).await? {
        let later = if delivery.message.id == id(0) { 0 } else { 5 };
        assert_eq!(delivery.enqueued_at, START + Duration::from_secs(later));
    }
    Ok(())
}
