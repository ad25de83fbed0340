use futures_util::FutureExt;

use super::harness::{QueueCapabilities, QueueHarness};
use super::scene::{START, Scene, WORKER, failure, id_range, message, messages, retry, sorted_ids};
use super::table::QueueCase;
use crate::error::{FULL_RETRY, PublishError};
use crate::ports::{DeliveryOutcome, Enqueued};
use crate::testing::kit::{CaseResult, Requirement, case};

pub(super) const CASES: &[QueueCase] = &[
    case!(
        "8.2",
        a_full_queue_takes_what_fits_and_answers_unavailable_for_the_rest
    ),
    case!("8.2", a_full_queue_trims_nothing),
    case!(
        "8.2",
        what_was_refused_by_a_full_queue_is_no_duplicate_later
    ),
    case!("8.2", settling_makes_room),
    case!(
        "8.2",
        entries_in_flight_count_as_long_as_they_are_not_settled
    ),
    case!("8.2", a_full_queue_names_the_time_to_ask_again),
    case!(
        "8.2",
        what_leaves_a_full_queue_gives_the_signal_of_room,
        SIGNALS_ROOM
    ),
    case!("8.2", a_full_queue_still_knows_its_duplicates),
    case!("8.2", a_retry_and_a_delay_fit_into_a_full_queue),
];

const SIGNALS_ROOM: Requirement<QueueCapabilities> = Requirement {
    what: "needs a queue that signals room",
    met: |capabilities| capabilities.signals_room,
};

/// Which of `results` were added, and which were refused for want of room.
fn fitted(results: &[Result<Enqueued, PublishError>]) -> Vec<bool> {
    let fits = |result: &Result<Enqueued, PublishError>| match result {
        Ok(Enqueued::Added) => Some(true),
        Err(PublishError::Unavailable { .. }) => Some(false),
        _ => None,
    };
    let fitted: Option<Vec<_>> = results.iter().map(fits).collect();
    assert!(fitted.is_some(), "added or unavailable: {results:?}");
    fitted.unwrap_or_default()
}

async fn a_full_queue_takes_what_fits_and_answers_unavailable_for_the_rest(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::with_high_water(harness, 5).await?;
    let results = scene.queue.enqueue(&messages(0..8)).await;
    let expected = [true, true, true, true, true, false, false, false];
    assert_eq!(fitted(&results), expected);
    assert_eq!(fitted(&scene.queue.enqueue(&[message(9)]).await), [false]);
    Ok(())
}

async fn a_full_queue_trims_nothing(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::with_high_water(harness, 100).await?;
    for batch in 0..10 {
        drop(
            scene
                .queue
                .enqueue(&messages(batch * 100..batch * 100 + 100))
                .await,
        );
    }
    let deliveries = scene.drain(WORKER, START).await?;
    assert_eq!(sorted_ids(&deliveries), id_range(0..100));
    Ok(())
}

async fn what_was_refused_by_a_full_queue_is_no_duplicate_later(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::with_high_water(harness, 2).await?;
    drop(scene.queue.enqueue(&messages(0..4)).await);
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    scene.done(&deliveries, START).await?;
    let results = scene.enqueue(&messages(2..4)).await?;
    assert_eq!(results, [Enqueued::Added, Enqueued::Added]);
    Ok(())
}

async fn settling_makes_room(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::with_high_water(harness, 3).await?;
    scene.enqueue(&messages(0..3)).await?;
    let deliveries = scene.dequeue(WORKER, 1, START).await?;
    scene.done(&deliveries, START).await?;
    let results = scene.queue.enqueue(&messages(3..5)).await;
    assert_eq!(fitted(&results), [true, false]);
    Ok(())
}

async fn entries_in_flight_count_as_long_as_they_are_not_settled(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::with_high_water(harness, 3).await?;
    scene.enqueue(&messages(0..3)).await?;
    scene.dequeue(WORKER, 3, START).await?;
    assert_eq!(fitted(&scene.queue.enqueue(&[message(3)]).await), [false]);
    Ok(())
}

async fn a_full_queue_still_knows_its_duplicates(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::with_high_water(harness, 2).await?;
    scene.enqueue(&messages(0..2)).await?;
    let results = scene.enqueue(&messages(0..2)).await?;
    assert_eq!(results, [Enqueued::Duplicate, Enqueued::Duplicate]);
    Ok(())
}

async fn a_retry_and_a_delay_fit_into_a_full_queue(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::with_high_water(harness, 2).await?;
    scene.enqueue(&messages(0..2)).await?;
    let deliveries = scene.dequeue(WORKER, 2, START).await?;
    let delay = DeliveryOutcome::Delay { due_at: START };
    let again = retry(START, "busy", START);
    assert!(scene.settle(deliveries[0].receipt, delay, START).await?);
    assert!(scene.settle(deliveries[1].receipt, again, START).await?);
    let deliveries = scene.dequeue(WORKER, 10, START).await?;
    assert_eq!(sorted_ids(&deliveries), id_range(0..2));
    Ok(())
}

async fn a_full_queue_names_the_time_to_ask_again(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::with_high_water(harness, 1).await?;
    scene.enqueue(&[message(0)]).await?;
    for number in 1..4 {
        let results = scene.queue.enqueue(&[message(number)]).await;
        let in_time = match &results[..] {
            [Err(PublishError::Unavailable { retry_after, .. })] => {
                retry_after.is_some_and(|wait| wait <= FULL_RETRY)
            }
            _ => false,
        };
        assert!(in_time, "{results:?}");
    }
    Ok(())
}

async fn what_leaves_a_full_queue_gives_the_signal_of_room(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::with_high_water(harness, 3).await?;
    let room = scene.queue.room().ok_or("the queue has no such signal")?;
    scene.enqueue(&messages(0..3)).await?;
    let deliveries = scene.dequeue(WORKER, 3, START).await?;
    let mut listener = room.listen();
    let outcomes = [
        DeliveryOutcome::Done,
        DeliveryOutcome::Quarantine {
            failure: failure(START, "bad"),
        },
    ];
    for (delivery, outcome) in deliveries.iter().zip(outcomes) {
        let results = scene.queue.enqueue(&[message(9)]).await;
        assert_eq!(fitted(&results), [false]);
        assert!(
            listener.notified().now_or_never().is_none(),
            "room, though full"
        );
        scene.settle(delivery.receipt, outcome, START).await?;
        assert!(
            listener.notified().now_or_never().is_some(),
            "no signal of room"
        );
        scene
            .enqueue(&[message(10 + delivery.message.id.as_bytes()[15] as u64)])
            .await?;
    }
    Ok(())
}
