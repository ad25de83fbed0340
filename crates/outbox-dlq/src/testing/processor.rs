use std::sync::Arc;
use std::time::Duration;

use outbox_core::error::BoxError;
use outbox_core::id::{MessageId, WorkerId};
use outbox_core::ports::DeliveryHook;
use outbox_core::report::{BatchReport, Fate, MessageReport, Stage};
use outbox_core::signal::Shutdown;
use outbox_core::testing::{CaseResult, cut};

use super::given::{LEASE, START, after, drain, letter_texts, message};
use super::harness::DlqHarness;
use super::scene::{Scene, sides};
use super::table::{DlqCase, case};
use crate::{DlqProcessor, DlqProcessorConfig, FailureRecorder, Origin};

pub(super) const CASES: &[DlqCase] = &[
    case!("10.1", a_processor_moves_what_failed_too_often),
    case!("10.1", a_processor_moves_what_has_been_failing_for_too_long),
    case!(
        "12.18",
        a_crash_between_draining_and_quarantining_loses_neither
    ),
    case!(
        "12.18",
        a_crash_between_quarantining_and_confirming_doubles_nothing
    ),
    case!("10.1", a_processor_goes_on_at_once_while_more_waits),
    case!("10.2", a_processor_leaves_alone_what_is_in_flight),
    case!("10.1", what_was_delivered_meanwhile_is_forgotten),
    case!(
        "7.2",
        a_processor_that_dies_anywhere_loses_and_doubles_nothing
    ),
    case!(
        "10.1",
        a_recorder_counts_what_failed_and_forgets_what_is_over
    ),
    case!(
        "10.1",
        a_failure_that_is_told_late_is_forgotten_with_the_next_success
    ),
];

fn processor(scene: &Scene, config: DlqProcessorConfig) -> Result<DlqProcessor, BoxError> {
    let (heap, quarantine) = (Arc::clone(&scene.heap), Arc::clone(&scene.quarantine));
    let clock = Arc::clone(&scene.clock);
    Ok(DlqProcessor::new(heap, quarantine, config)?.driven_by(clock))
}

fn config() -> DlqProcessorConfig {
    DlqProcessorConfig {
        threshold: 3,
        lease: LEASE,
        batch: 2,
        ..DlqProcessorConfig::default()
    }
}

/// Messages that failed once, and were counted three times each.
async fn exceeded(scene: &Scene, names: &[&str]) -> Result<Vec<MessageId>, BoxError> {
    let batch: Vec<_> = names.iter().map(|name| message(name)).collect();
    let ids = scene.fail(&batch, START).await?;
    for _ in 0..3 {
        scene.count(&ids, START).await?;
    }
    Ok(ids)
}

async fn a_processor_moves_what_failed_too_often(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        exceeded(&scene, &["a", "b", "c", "d", "e"]).await?;
        let fine = scene.fail(&[message("fine")], START).await?;
        scene.count(&fine, START).await?;
        let report = processor(&scene, config())?.run_once().await?;
        assert_eq!(
            (report.quarantined, report.gone, report.in_flight),
            (5, 0, 0)
        );
        assert_eq!(scene.letters().await?.len(), 5);
        assert_eq!(scene.heap.stats(START).await?.entries, 1);
        assert_eq!(scene.deliver_all(after(60)).await?, ["fine"]);
    }
    Ok(())
}

async fn a_processor_moves_what_has_been_failing_for_too_long(
    harness: &dyn DlqHarness,
) -> CaseResult {
    for scene in sides(harness).await? {
        let ids = scene.fail(&[message("a")], START).await?;
        scene.count(&ids, START).await?;
        let config = DlqProcessorConfig {
            max_age: Some(Duration::from_secs(10)),
            ..config()
        };
        let processor = processor(&scene, config)?;
        scene.clock.set(after(10));
        assert_eq!(processor.run_once().await?.quarantined, 0);
        scene.clock.set(after(11));
        assert_eq!(processor.run_once().await?.quarantined, 1);
        scene.only_letter().await?;
    }
    Ok(())
}

async fn a_crash_between_draining_and_quarantining_loses_neither(
    harness: &dyn DlqHarness,
) -> CaseResult {
    for scene in sides(harness).await? {
        exceeded(&scene, &["a"]).await?;
        assert_eq!(scene.heap.drain_exceeded(&drain(3, START)).await?.len(), 1);
        let processor = processor(&scene, config())?;
        assert_eq!(processor.run_once().await?.quarantined, 0);
        assert_eq!(scene.undelivered().await?, 1);
        scene.clock.set(START + LEASE);
        assert_eq!(processor.run_once().await?.quarantined, 1);
        assert_eq!(scene.undelivered().await?, 0);
    }
    Ok(())
}

async fn a_crash_between_quarantining_and_confirming_doubles_nothing(
    harness: &dyn DlqHarness,
) -> CaseResult {
    for scene in sides(harness).await? {
        exceeded(&scene, &["a"]).await?;
        let drained = scene.heap.drain_exceeded(&drain(3, START)).await?;
        scene.quarantine.quarantine(&drained, START).await?;
        scene.clock.set(START + LEASE);
        let report = processor(&scene, config())?.run_once().await?;
        assert_eq!((report.quarantined, report.gone), (0, 1));
        scene.only_letter().await?;
        assert_eq!(scene.heap.stats(START + LEASE).await?.entries, 0);
    }
    Ok(())
}

/// More than 64 batches, which are all that one pass moves, and an hour until the timer wakes it.
async fn a_processor_goes_on_at_once_while_more_waits(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let names: Vec<_> = (0..65).map(|number| number.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        exceeded(&scene, &names).await?;
        let config = DlqProcessorConfig {
            batch: 1,
            interval: Duration::from_secs(3_600),
            ..config()
        };
        let (processor, shutdown) = (processor(&scene, config)?, Shutdown::new());
        let until_moved = async {
            while scene.heap.stats(START).await?.entries > 0 {
                tokio::task::yield_now().await;
            }
            shutdown.trigger();
            Ok::<_, BoxError>(())
        };
        let both = async { tokio::join!(processor.run(&shutdown), until_moved) };
        let (report, moved) = tokio::time::timeout(Duration::from_secs(60), both).await?;
        moved?;
        assert_eq!(report?.quarantined, 65);
    }
    Ok(())
}

async fn a_processor_leaves_alone_what_is_in_flight(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        exceeded(&scene, &["a"]).await?;
        scene.clock.set(after(2));
        let taken = scene.take(1, after(2)).await?;
        let processor = processor(&scene, config())?;
        let report = processor.run_once().await?;
        assert_eq!((report.quarantined, report.in_flight), (0, 1));
        scene.retry(&taken, "no luck", after(2)).await?;
        scene.stop().await?;
        assert_eq!(processor.run_once().await?.quarantined, 1);
        assert_eq!(scene.only_letter().await?.attempts, 2);
    }
    Ok(())
}

async fn what_was_delivered_meanwhile_is_forgotten(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        exceeded(&scene, &["a"]).await?;
        scene.deliver_all(after(60)).await?;
        let report = processor(&scene, config())?.run_once().await?;
        assert_eq!((report.quarantined, report.gone), (0, 1));
        assert!(scene.letters().await?.is_empty());
        assert_eq!(scene.heap.stats(START).await?.entries, 0);
    }
    Ok(())
}

async fn a_processor_that_dies_anywhere_loses_and_doubles_nothing(
    harness: &dyn DlqHarness,
) -> CaseResult {
    for polls in 0.. {
        let mut finished = true;
        for scene in sides(harness).await? {
            exceeded(&scene, &["a", "b", "c"]).await?;
            let dies = processor(&scene, config())?;
            finished &= cut(dies.run_once(), polls).await.is_some();
            let (resting, undelivered, _) = scene.whereabouts().await?;
            assert_eq!(resting + undelivered, 3, "after {polls} polls");
            scene.clock.set(START + LEASE);
            processor(&scene, config())?.run_once().await?;
            let mut names = letter_texts(&scene.letters().await?);
            names.sort();
            assert_eq!(names, ["a", "b", "c"], "after {polls} polls");
            assert_eq!(scene.heap.stats(START).await?.entries, 0);
        }
        if finished {
            break;
        }
    }
    Ok(())
}

fn reported(id: MessageId, attempt: u32, fate: Fate) -> MessageReport {
    let message = outbox_core::message::Message::appended(&message("a"), id, START);
    let mut report = MessageReport::of(&message, attempt, fate, START);
    report.error = Some(("failed".to_owned(), "no luck".to_owned()));
    report
}

fn batch_of(scene: &Scene, messages: Vec<MessageReport>) -> BatchReport {
    let (stage, destination) = match &scene.origin {
        Origin::Outbox => (Stage::Publish, "anywhere".to_owned()),
        Origin::Queue(name) => (Stage::Handle, name.clone()),
    };
    BatchReport {
        stage,
        worker: WorkerId::from_bytes([1; 16]),
        destination,
        duration: Duration::ZERO,
        messages,
    }
}

async fn a_recorder_counts_what_failed_and_forgets_what_is_over(
    harness: &dyn DlqHarness,
) -> CaseResult {
    for scene in sides(harness).await? {
        let recorder = FailureRecorder::new(Arc::clone(&scene.heap));
        let recorder = recorder.driven_by(Arc::clone(&scene.clock) as _);
        let id = |number| MessageId::from_bytes([number; 16]);
        let first = (1..=6).map(|n| reported(id(n), 1, Fate::Retried));
        recorder
            .after_batch(&batch_of(&scene, first.collect()))
            .await;
        let fates = [
            Fate::Retried,
            Fate::Done,
            Fate::Quarantined,
            Fate::Deferred,
            Fate::Lost,
            Fate::Duplicate,
        ];
        let second = (1..=6).zip(fates).map(|(n, fate)| reported(id(n), 2, fate));
        recorder
            .after_batch(&batch_of(&scene, second.collect()))
            .await;
        let drained = scene.heap.drain_exceeded(&drain(1, START)).await?;
        let mut counts: Vec<_> = drained.iter().map(|e| (e.subject.id, e.failures)).collect();
        counts.sort();
        assert_eq!(counts, [(id(1), 2), (id(4), 1), (id(5), 1)]);
        assert!(
            drained
                .iter()
                .all(|entry| entry.subject.origin == scene.origin)
        );
        assert!(drained.iter().all(|entry| entry.error == "no luck"));
    }
    Ok(())
}

/// The message is moved between an attempt's end and its report, and sent back with its attempts anew:
/// so the attempt that succeeds is a first one.
async fn a_failure_that_is_told_late_is_forgotten_with_the_next_success(
    harness: &dyn DlqHarness,
) -> CaseResult {
    for scene in sides(harness).await? {
        let ids = exceeded(&scene, &["a"]).await?;
        let processor = processor(&scene, config())?;
        assert_eq!(processor.run_once().await?.quarantined, 1);
        let recorder = processor.recorder();
        let told = async |attempt, fate| {
            let report = reported(ids[0], attempt, fate);
            recorder.after_batch(&batch_of(&scene, vec![report])).await;
        };
        told(4, Fate::Retried).await;
        assert_eq!(scene.heap.stats(START).await?.entries, 1);
        told(1, Fate::Done).await;
        assert_eq!(scene.heap.stats(START).await?.entries, 0);
    }
    Ok(())
}
