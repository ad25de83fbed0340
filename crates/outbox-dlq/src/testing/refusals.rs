use outbox_core::ports::Enqueued;
use outbox_core::testing::CaseResult;

use super::given::{START, action, after, letter_texts, message, redrive_all};
use super::harness::DlqHarness;
use super::scene::{Scene, Side, sides};
use super::table::{CORRUPTION, DlqCase, QUEUE, case};
use crate::{Origin, RedriveRequest, Refusal};

pub(super) const CASES: &[DlqCase] = &[
    case!("10.5", what_was_redriven_too_often_is_refused_unless_forced),
    case!("10.5", a_message_that_is_there_already_is_refused),
    case!(
        "10.5",
        a_message_that_was_enqueued_again_while_its_letter_rested_is_refused,
        QUEUE
    ),
    case!("10.5", two_letters_of_one_message_go_one_after_the_other),
    case!("10.5", a_letter_whose_origin_is_not_here_is_refused),
    case!(
        "10.5",
        a_letter_that_cannot_be_read_is_refused_and_stays,
        CORRUPTION
    ),
    case!("10.5", a_refusal_stops_no_other),
];

/// A letter that was redriven `times` times.
async fn came_back(scene: &Scene, times: u64) -> CaseResult {
    scene.bury(&[message("a")], "never", START).await?;
    for second in 1..=times {
        scene.redrive(after(second)).await?;
        let taken = scene.take(1, after(second)).await?;
        scene.give_up(&taken, "never", after(second)).await?;
        scene.stop().await?;
    }
    Ok(())
}

async fn what_was_redriven_too_often_is_refused_unless_forced(
    harness: &dyn DlqHarness,
) -> CaseResult {
    for scene in sides(harness).await? {
        came_back(&scene, 2).await?;
        let mut request = RedriveRequest {
            max_redrives: Some(2),
            ..redrive_all(after(9))
        };
        let id = scene.only_letter().await?.id;
        let report = scene.quarantine.redrive(&request).await?;
        let refusal = Refusal::TooOften {
            id,
            redrives: 2,
            limit: 2,
        };
        assert_eq!((report.redriven, report.refused), (vec![], vec![refusal]));
        assert_eq!(scene.only_letter().await?.id, id);
        request.max_redrives = Some(3);
        assert_eq!(scene.quarantine.redrive(&request).await?.redriven, [id]);
        let taken = scene.take(1, after(9)).await?;
        scene.give_up(&taken, "never", after(9)).await?;
        request.max_redrives = None;
        assert_eq!(scene.quarantine.redrive(&request).await?.redriven.len(), 1);
    }
    Ok(())
}

/// Reads the letters in again, after they were redriven: their messages are undelivered, too.
async fn doubled(scene: &Scene, names: &[&str]) -> CaseResult {
    let batch: Vec<_> = names.iter().map(|name| message(name)).collect();
    scene.bury(&batch, "never", START).await?;
    let letters = scene.letters().await?;
    scene.redrive(after(1)).await?;
    scene
        .quarantine
        .import(&letters, &action(2), after(1))
        .await?;
    Ok(())
}

async fn a_message_that_is_there_already_is_refused(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        doubled(&scene, &["a"]).await?;
        let id = scene.only_letter().await?.id;
        let report = scene.redrive(after(2)).await?;
        let origin = scene.origin.clone();
        let refusal = Refusal::AlreadyThere { id, origin };
        assert_eq!((report.redriven, report.refused), (vec![], vec![refusal]));
        assert_eq!(scene.undelivered().await?, 1);
        assert_eq!(scene.deliver_all(after(2)).await?, ["a"]);
    }
    Ok(())
}

/// Its queue does not remember its id any more, so that it takes it a second time.
async fn a_message_that_was_enqueued_again_while_its_letter_rested_is_refused(
    harness: &dyn DlqHarness,
) -> CaseResult {
    const MONTH: u64 = 30 * 24 * 3_600;
    for scene in sides(harness).await? {
        let Side::Queue(queue) = &scene.side else {
            continue;
        };
        scene.bury(&["a", "b"].map(message), "never", START).await?;
        let letters = scene.letters().await?;
        scene.clock.set(after(MONTH));
        let again = letters[0].message.clone().ok_or("it can be read")?;
        let told = queue.enqueue(&[again]).await;
        assert!(matches!(told[..], [Ok(Enqueued::Added)]), "{told:?}");
        let report = scene.redrive(after(MONTH + 1)).await?;
        let (id, origin) = (letters[0].id, scene.origin.clone());
        assert_eq!(report.redriven, [letters[1].id]);
        assert_eq!(report.refused, [Refusal::AlreadyThere { id, origin }]);
        let mut delivered = scene.deliver_all(after(MONTH + 1)).await?;
        delivered.sort();
        assert_eq!(delivered, ["a", "b"]);
        // It was handled, though its id is remembered.
        assert_eq!(scene.redrive(after(MONTH + 2)).await?.redriven, [id]);
    }
    Ok(())
}

async fn two_letters_of_one_message_go_one_after_the_other(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        doubled(&scene, &["a"]).await?;
        let taken = scene.take(1, after(2)).await?;
        scene.give_up(&taken, "never", after(2)).await?;
        scene.stop().await?;
        assert_eq!(scene.letters().await?.len(), 2);
        let report = scene.redrive(after(3)).await?;
        assert_eq!((report.redriven.len(), report.refused.len()), (1, 1));
        assert_eq!(scene.deliver_all(after(3)).await?, ["a"]);
    }
    Ok(())
}

async fn a_letter_whose_origin_is_not_here_is_refused(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene.bury(&[message("a")], "never", START).await?;
        let mut letter = scene.only_letter().await?;
        letter.origin = Origin::Queue("nowhere".to_owned());
        let origin = letter.origin.clone();
        scene
            .quarantine
            .import(&[letter], &action(2), after(1))
            .await?;
        let id = scene.numbers().await?[1];
        let report = scene.redrive(after(2)).await?;
        assert_eq!(report.redriven.len(), 1);
        assert_eq!(report.refused, [Refusal::NoOrigin { id, origin }]);
        assert_eq!(scene.only_letter().await?.id, id);
    }
    Ok(())
}

async fn a_letter_that_cannot_be_read_is_refused_and_stays(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene.bury(&["a", "b"].map(message), "never", START).await?;
        let id = scene.numbers().await?[0];
        scene.store.corrupt_letter(id).await?;
        let report = scene.redrive(after(1)).await?;
        assert_eq!(report.refused, [Refusal::Unreadable { id }]);
        assert_eq!(scene.only_letter().await?.id, id);
        assert_eq!(scene.deliver_all(after(1)).await?, ["b"]);
    }
    Ok(())
}

async fn a_refusal_stops_no_other(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        came_back(&scene, 1).await?;
        scene
            .bury(&["b", "c"].map(message), "never", after(5))
            .await?;
        let mut request = RedriveRequest {
            max_redrives: Some(1),
            max: 1,
            ..redrive_all(after(9))
        };
        let mut redriven = 0;
        loop {
            let report = scene.quarantine.redrive(&request).await?;
            redriven += report.redriven.len();
            request.after = report.next;
            if request.after.is_none() {
                break;
            }
        }
        assert_eq!(redriven, 2);
        assert_eq!(letter_texts(&scene.letters().await?), ["a"]);
    }
    Ok(())
}
