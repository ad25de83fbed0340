use std::time::Duration;

use futures_util::future::join;
use tokio::time::{Instant, timeout};

use super::dequeue::EXPIRIES;
use super::harness::QueueHarness;
use super::scene::{RIVAL, START, Scene, WORKER, message, only, request, retry};
use super::table::QueueCase;
use crate::ports::{DeliveryOutcome, DequeueRequest, Queue};
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[QueueCase] = &[
    case!(
        "8.9",
        an_empty_queue_answers_at_once_where_no_wait_is_asked_for
    ),
    case!("8.9", entries_that_are_there_are_delivered_without_waiting),
    case!("5.1", a_waiting_dequeue_wakes_when_something_is_enqueued),
    case!("5.1", a_waiting_dequeue_wakes_when_another_handle_enqueues),
    case!("5.3", a_waiting_dequeue_wakes_at_a_due_time),
    case!(
        "5.3",
        a_waiting_dequeue_wakes_at_the_due_time_of_a_retry_made_meanwhile
    ),
    case!(
        "6",
        a_waiting_dequeue_ends_with_the_lease_of_another,
        EXPIRIES
    ),
    case!("8.9", a_waiting_dequeue_gives_up_in_time),
    case!("8.4", of_two_waiting_workers_one_is_given_an_entry),
];

/// Much longer than any wake-up takes: who waits this long was not woken.
const LONG: Duration = Duration::from_secs(30);

/// As long as a wake-up may take on the slowest machine.
const WOKEN: Duration = Duration::from_secs(10);

/// As long as a delay takes, in real time.
const DELAY: Duration = Duration::from_millis(150);

fn patient(wait: Duration) -> DequeueRequest {
    DequeueRequest {
        wait,
        ..request(WORKER, 10, START)
    }
}

async fn an_empty_queue_answers_at_once_where_no_wait_is_asked_for(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let began = Instant::now();
    assert_eq!(scene.dequeue(WORKER, 10, START).await?, []);
    assert!(began.elapsed() < WOKEN);
    Ok(())
}

async fn entries_that_are_there_are_delivered_without_waiting(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let began = Instant::now();
    let report = scene.queue.dequeue(&patient(LONG)).await?;
    only(report.deliveries)?;
    assert!(began.elapsed() < WOKEN);
    Ok(())
}

/// Lets `waiting` wait for a while; it must not be done by then.
async fn still_waits<F: Future + Unpin>(waiting: &mut F) {
    let early = timeout(DELAY, waiting).await;
    assert!(early.is_err(), "answered though nothing was there");
}

/// Has `waiting` wait, enqueues one message, and expects that to be delivered at once.
async fn wakes(scene: &Scene, waiting: &dyn Queue) -> CaseResult {
    let asked = patient(LONG);
    let mut waiting = waiting.dequeue(&asked);
    still_waits(&mut waiting).await;
    let began = Instant::now();
    let sent = [message(1)];
    let (report, sent) = tokio::join!(waiting, scene.enqueue(&sent));
    sent?;
    let delivery = only(report?.deliveries)?;
    assert!(began.elapsed() < WOKEN);
    // It is held as any other.
    assert_eq!(scene.queue.stats(START).await?.in_flight, 1);
    assert!(
        scene
            .settle(delivery.receipt, DeliveryOutcome::Done, START)
            .await?
    );
    assert_eq!(scene.queue.stats(START).await?.depth(), 0);
    Ok(())
}

async fn a_waiting_dequeue_wakes_when_something_is_enqueued(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    wakes(&scene, &*scene.queue).await
}

async fn a_waiting_dequeue_wakes_when_another_handle_enqueues(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let other = scene.store.open().await?;
    wakes(&scene, &*other).await
}

async fn a_waiting_dequeue_wakes_at_a_due_time(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    let due_at = START + DELAY;
    let delay = DeliveryOutcome::Delay { due_at };
    assert!(scene.settle(delivery.receipt, delay, START).await?);
    let began = Instant::now();
    let report = scene.queue.dequeue(&patient(LONG)).await?;
    only(report.deliveries)?;
    let waited = began.elapsed();
    assert!((DELAY..WOKEN).contains(&waited), "{waited:?}");
    Ok(())
}

async fn a_waiting_dequeue_wakes_at_the_due_time_of_a_retry_made_meanwhile(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let delivery = scene.dequeue_one(START).await?;
    let asked = patient(LONG);
    let mut waiting = scene.queue.dequeue(&asked);
    still_waits(&mut waiting).await;
    let began = Instant::now();
    let now = START + DELAY;
    let again = retry(now, "busy", now + DELAY);
    let settling = scene.settle(delivery.receipt, again, now);
    let (report, settled) = tokio::join!(waiting, settling);
    assert!(settled?);
    assert_eq!(only(report?.deliveries)?.attempt, 2);
    assert!(began.elapsed() < WOKEN);
    Ok(())
}

async fn a_waiting_dequeue_ends_with_the_lease_of_another(
    harness: &dyn QueueHarness,
) -> CaseResult {
    let scene = Scene::holding(harness, 0..1).await?;
    let theirs = DequeueRequest {
        lease: DELAY,
        ..request(RIVAL, 1, START)
    };
    only(scene.queue.dequeue(&theirs).await?.deliveries)?;
    let began = Instant::now();
    let report = scene.queue.dequeue(&patient(LONG)).await?;
    assert_eq!(report.deliveries, []);
    assert_eq!(report.next_expiry, Some(START + DELAY));
    let waited = began.elapsed();
    assert!((DELAY..WOKEN).contains(&waited), "{waited:?}");
    Ok(())
}

async fn a_waiting_dequeue_gives_up_in_time(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let began = Instant::now();
    let report = scene.queue.dequeue(&patient(DELAY)).await?;
    assert_eq!(report.deliveries, []);
    let waited = began.elapsed();
    assert!((DELAY..WOKEN).contains(&waited), "{waited:?}");
    Ok(())
}

async fn of_two_waiting_workers_one_is_given_an_entry(harness: &dyn QueueHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let other = scene.store.open().await?;
    let mine = patient(4 * DELAY);
    let theirs = DequeueRequest {
        owner: RIVAL,
        ..mine.clone()
    };
    let mut waiting = join(scene.queue.dequeue(&mine), other.dequeue(&theirs));
    still_waits(&mut waiting).await;
    let sent = [message(1)];
    let ((mine, theirs), sent) = tokio::join!(waiting, scene.enqueue(&sent));
    sent?;
    let mut deliveries = mine?.deliveries;
    deliveries.extend(theirs?.deliveries);
    only(deliveries)?;
    Ok(())
}
