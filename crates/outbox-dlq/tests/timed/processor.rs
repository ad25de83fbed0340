use std::time::Duration;

use outbox_core::OutboxError;
use outbox_core::id::MessageId;
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::DeliveryHook;
use outbox_core::report::{BatchReport, Fate, MessageReport, Stage};
use outbox_core::signal::Shutdown;
use outbox_dlq::{DlqProcessorConfig, DlqReport, FailureRecorder};

use crate::fixture::{SECOND, World};

fn config() -> DlqProcessorConfig {
    DlqProcessorConfig {
        threshold: 3,
        interval: 10 * SECOND,
        ..DlqProcessorConfig::default()
    }
}

/// Runs a processor beside `story`, and stops it at the story's end.
async fn beside(
    world: &World,
    config: DlqProcessorConfig,
    story: impl AsyncFnOnce(FailureRecorder),
) -> DlqReport {
    let (processor, shutdown) = (world.processor(config), Shutdown::new());
    let told = async {
        story(processor.recorder()).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(processor.run(&shutdown), told);
    report.unwrap()
}

/// What a relay reports of attempt number `attempt` of these messages, which failed.
fn failed(ids: &[MessageId], attempt: u32) -> BatchReport {
    let report = |id: &MessageId| {
        let message = Message::appended(&NewMessage::new("t", "text"), *id, Default::default());
        let mut report = MessageReport::of(&message, attempt, Fate::Retried, message.created_at);
        report.error = Some(("failed".to_owned(), "no luck".to_owned()));
        report
    };
    BatchReport {
        stage: Stage::Publish,
        worker: outbox_core::id::WorkerId::from_bytes([1; 16]),
        destination: "anywhere".to_owned(),
        duration: Duration::ZERO,
        messages: ids.iter().map(report).collect(),
    }
}

#[tokio::test(start_paused = true)]
async fn the_heap_is_looked_at_by_timer() {
    let world = World::new();
    let ids = world.failed(2).await;
    let report = beside(&world, config(), async |_| {
        world.until(1.0).await;
        world.count(&ids, 3).await;
        world.until(9.9).await;
        assert_eq!(world.resting().await, 0, "nobody woke it");
        world.until(10.1).await;
        assert_eq!(world.resting().await, 2);
        world.until(35.0).await;
    })
    .await;
    // Whoever moved something looks on at once, until nothing is left.
    assert_eq!(world.looks(), [0.0, 10.0, 20.0, 30.0]);
    assert_eq!((report.passes, report.quarantined), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_recorder_that_sees_the_threshold_wakes_it_at_once() {
    let world = World::new();
    let ids = world.failed(1).await;
    beside(&world, config(), async |recorder| {
        for attempt in 1..=3 {
            world.until(f64::from(attempt)).await;
            recorder.after_batch(&failed(&ids, attempt)).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            let expected = usize::from(attempt == 3);
            assert_eq!(world.resting().await, expected, "attempt {attempt}");
        }
    })
    .await;
    assert_eq!(world.looks(), [0.0, 3.0], "what is below it wakes nobody");
}

#[tokio::test(start_paused = true)]
async fn what_stays_below_the_threshold_stays_where_it_is() {
    let world = World::new();
    let ids = world.failed(3).await;
    world.count(&ids, 2).await;
    let report = beside(&world, config(), async |_| world.until(3_600.0).await).await;
    assert_eq!((report.quarantined, world.resting().await), (0, 0));
    assert_eq!(report.passes, 361);
}

#[tokio::test(start_paused = true)]
async fn what_has_been_failing_for_longer_than_its_age_goes_at_the_next_look() {
    let world = World::new();
    let ids = world.failed(1).await;
    world.count(&ids, 1).await;
    let config = DlqProcessorConfig {
        max_age: Some(60 * SECOND),
        ..config()
    };
    beside(&world, config, async |_| {
        world.until(69.9).await;
        assert_eq!(world.resting().await, 0);
        world.until(70.1).await;
        assert_eq!(world.resting().await, 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_looked_at_again_after_its_own_pause() {
    let world = World::new();
    let held = world.claimed(1).await;
    world.count(&held, 3).await;
    let config = DlqProcessorConfig {
        in_flight_pause: 2 * SECOND,
        ..config()
    };
    let report = beside(&world, config, async |_| {
        world.until(5.0).await;
        assert_eq!(world.resting().await, 0);
        world.stop().await;
        world.until(6.1).await;
        assert_eq!(world.resting().await, 1);
    })
    .await;
    assert_eq!(world.looks(), [0.0, 2.0, 4.0, 6.0]);
    assert_eq!((report.in_flight, report.quarantined), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_pause() {
    let world = World::new();
    let report = beside(&world, config(), async |_| world.until(3.0).await).await;
    assert_eq!(world.elapsed(), 3 * SECOND);
    assert_eq!(
        report,
        DlqReport {
            passes: 1,
            ..DlqReport::default()
        }
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_the_batch_that_is_being_moved_and_begins_no_other() {
    let world = World::new();
    let ids = world.failed(5).await;
    world.count(&ids, 3).await;
    *world.heap.confirming.lock().unwrap() = 4 * SECOND;
    let config = DlqProcessorConfig {
        batch: 2,
        ..config()
    };
    let report = beside(&world, config, async |_| world.until(1.0).await).await;
    assert_eq!(world.elapsed(), 4 * SECOND);
    assert_eq!((report.quarantined, world.resting().await), (2, 2));
    let stats = world.heap_stats().await;
    assert_eq!(
        (stats.entries, stats.claimed),
        (3, 0),
        "confirmed, none held"
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_left_in_peace_for_longer_each_time() {
    let world = World::new();
    let ids = world.failed(1).await;
    world.count(&ids, 3).await;
    world.heap.fail(7);
    let report = beside(&world, config(), async |recorder| {
        world.until(2.0).await;
        recorder.after_batch(&failed(&ids, 3)).await;
        world.until(100.0).await;
        assert_eq!(world.resting().await, 1);
        world.heap.fail(1);
        world.until(112.0).await;
    })
    .await;
    let looks = [
        0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 61.0, 91.0, 101.0, 102.0, 112.0,
    ];
    assert_eq!(world.looks(), looks, "no wake-up disturbs it");
    assert_eq!((report.failed, report.quarantined), (8, 1));
}

#[tokio::test(start_paused = true)]
async fn what_no_waiting_can_mend_ends_the_run() {
    let world = World::new();
    let errors = &world.heap.errors;
    errors.lock().unwrap().push_back(OutboxError::Closed);
    let run = world.processor(config());
    let error = run.run(&Shutdown::new()).await.unwrap_err();
    assert!(matches!(error, OutboxError::Closed), "{error}");
    assert_eq!(world.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_report_tells_what_became_of_everything() {
    let world = World::new();
    let moved = world.failed(3).await;
    let held = world.claimed(1).await;
    let unknown = [MessageId::from_bytes([9; 16])];
    for ids in [&moved[..], &held, &unknown] {
        world.count(ids, 3).await;
    }
    world.count(&[MessageId::from_bytes([8; 16])], 1).await;
    let config = DlqProcessorConfig {
        in_flight_pause: 3_600 * SECOND,
        interval: 3_600 * SECOND,
        forget_after: 2 * 3_600 * SECOND,
        ..config()
    };
    let report = beside(&world, config, async |_| {
        world.until(1.5 * 3_600.0).await;
        world.count(&held, 1).await;
        world.until(3.5 * 3_600.0).await;
    })
    .await;
    let expected = DlqReport {
        passes: 4,
        quarantined: 3,
        gone: 1,
        in_flight: 4,
        forgotten: 1,
        failed: 0,
    };
    assert_eq!(report, expected);
}
