use outbox_core::testing::{CaseResult, cut};

use super::given::{START, action, after, keyed, letter_texts, message, redrive_all};
use super::harness::DlqHarness;
use super::scene::sides;
use super::table::{DlqCase, case};
use crate::{ActionKind, Attempts, CountRequest, Filter, Quarantine, RedriveRequest};

pub(super) const CASES: &[DlqCase] = &[
    case!("10.5", a_redriven_message_is_delivered_as_it_was),
    case!("10.5", attempts_begin_anew_or_go_on),
    case!(
        "10.4",
        a_message_that_fails_again_comes_back_with_its_history
    ),
    case!("10.4", how_often_it_came_back_is_counted_and_shown),
    case!("10.5", a_filter_chooses_what_is_redriven),
    case!("10.5", a_dry_run_tells_the_same_and_changes_nothing),
    case!("10.5", a_redriven_message_can_be_quarantined_again),
    case!("10.5", an_action_in_steps_is_one_record_of_the_audit),
    case!("7.2", a_dropped_redrive_neither_loses_nor_doubles),
];

async fn a_redriven_message_is_delivered_as_it_was(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let new = keyed("k", "{}")
            .content_type("application/json")
            .header("tenant-id", "t \u{1F600}")
            .aggregate("order", "7");
        scene.put(&[new]).await?;
        let first = scene.take(1, START).await?;
        scene.give_up(&first, "never", START).await?;
        scene.stop().await?;
        let number = scene.only_letter().await?.id;
        let report = scene.redrive(after(9)).await?;
        assert_eq!((report.redriven, report.refused), (vec![number], vec![]));
        assert!(scene.letters().await?.is_empty());
        let again = scene.take(2, after(9)).await?;
        assert_eq!(again.len(), 1);
        let mut message = again[0].message.clone();
        message.epoch = first[0].message.epoch;
        assert_eq!(message, first[0].message);
        scene.deliver(&again, after(9)).await?;
        assert_eq!(scene.undelivered().await?, 0);
    }
    Ok(())
}

async fn attempts_begin_anew_or_go_on(harness: &dyn DlqHarness) -> CaseResult {
    for (attempts, expected) in [(Attempts::Reset, 1), (Attempts::Keep, 3)] {
        for scene in sides(harness).await? {
            scene.put(&[message("a")]).await?;
            for second in [0, 2] {
                let taken = scene.take(1, after(second)).await?;
                match second {
                    0 => scene.retry(&taken, "no luck", START).await?,
                    _ => scene.give_up(&taken, "never", after(second)).await?,
                }
            }
            let request = RedriveRequest {
                attempts,
                ..redrive_all(after(3))
            };
            scene.quarantine.redrive(&request).await?;
            let taken = scene.take(1, after(3)).await?;
            assert_eq!(taken[0].attempt, expected, "{attempts:?}");
        }
    }
    Ok(())
}

async fn a_message_that_fails_again_comes_back_with_its_history(
    harness: &dyn DlqHarness,
) -> CaseResult {
    for scene in sides(harness).await? {
        scene.bury(&[message("a")], "first", START).await?;
        scene.redrive(after(1)).await?;
        let taken = scene.take(1, after(1)).await?;
        scene.give_up(&taken, "second", after(1)).await?;
        let letter = scene.only_letter().await?;
        let errors: Vec<_> = letter
            .history
            .iter()
            .map(|record| record.error.as_str())
            .collect();
        assert_eq!(errors, ["first", "second"]);
        assert_eq!((letter.error.as_str(), letter.attempts), ("second", 1));
        assert_eq!(
            (letter.first_failed_at, letter.last_failed_at),
            (START, after(1))
        );
        assert_eq!(letter.redrives, 1);
    }
    Ok(())
}

async fn how_often_it_came_back_is_counted_and_shown(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene
            .bury(&[message("a"), message("b")], "never", START)
            .await?;
        let numbers = scene.numbers().await?;
        for second in 1..=3 {
            let filter = match second {
                1 => Filter::one(numbers[0]),
                _ => Filter {
                    since: Some(after(1)),
                    ..Filter::default()
                },
            };
            let request = RedriveRequest {
                filter,
                ..redrive_all(after(second))
            };
            scene.quarantine.redrive(&request).await?;
            let taken = scene.take(2, after(second)).await?;
            assert_eq!(taken.len(), 1);
            match second {
                2 => scene.retry(&taken, "no luck", after(second)).await?,
                _ => scene.give_up(&taken, "never", after(second)).await?,
            }
            if second == 2 {
                scene.stop().await?;
                let ids = [taken[0].message.id];
                scene.quarantine(&ids, after(second)).await?;
            }
        }
        let redrives: Vec<_> = scene.letters().await?.iter().map(|l| l.redrives).collect();
        assert_eq!(redrives, [0, 3]);
        let request = CountRequest {
            filter: Filter::default(),
            max: 10,
        };
        let counts = scene.quarantine.count(&request).await?;
        assert_eq!((counts.came_back, counts.groups[0].redrives), (1, 3));
    }
    Ok(())
}

async fn a_filter_chooses_what_is_redriven(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene.bury(&[message("a")], "no row 1", START).await?;
        scene.bury(&[message("b")], "busy", START).await?;
        scene.bury(&[message("c")], "no row 2", START).await?;
        let fingerprint = scene.letters().await?[0].fingerprint;
        let request = RedriveRequest {
            filter: Filter::alike(fingerprint),
            ..redrive_all(after(1))
        };
        assert_eq!(scene.quarantine.redrive(&request).await?.redriven.len(), 2);
        assert_eq!(scene.deliver_all(after(1)).await?, ["a", "c"]);
        assert_eq!(letter_texts(&scene.letters().await?), ["b"]);
        let one = RedriveRequest {
            filter: Filter::one(scene.only_letter().await?.id),
            ..redrive_all(after(2))
        };
        scene.quarantine.redrive(&one).await?;
        assert_eq!(scene.deliver_all(after(2)).await?, ["b"]);
    }
    Ok(())
}

async fn a_dry_run_tells_the_same_and_changes_nothing(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene
            .bury(&["a", "b", "c"].map(message), "never", START)
            .await?;
        let before = scene.letters().await?;
        let mut request = RedriveRequest {
            max: 2,
            dry_run: true,
            ..redrive_all(after(1))
        };
        let told = scene.quarantine.redrive(&request).await?;
        assert_eq!(told.redriven.len(), 2);
        assert_eq!(scene.letters().await?, before);
        assert_eq!(scene.undelivered().await?, 0);
        assert!(scene.quarantine.audit(0, 10).await?.is_empty());
        request.dry_run = false;
        assert_eq!(scene.quarantine.redrive(&request).await?, told);
    }
    Ok(())
}

async fn a_redriven_message_can_be_quarantined_again(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let ids = scene.fail(&[message("a")], START).await?;
        scene.quarantine(&ids, START).await?;
        scene.redrive(after(1)).await?;
        let taken = scene.take(1, after(1)).await?;
        scene.retry(&taken, "no luck", after(1)).await?;
        scene.stop().await?;
        scene.quarantine(&ids, after(2)).await?;
        let letter = scene.only_letter().await?;
        assert_eq!((letter.redrives, letter.history.len()), (1, 2));
        scene.redrive(after(3)).await?;
        assert_eq!(scene.deliver_all(after(3)).await?, ["a"]);
    }
    Ok(())
}

/// Sends everything back in steps of `max`; how many steps.
async fn in_steps(
    quarantine: &dyn Quarantine,
    max: usize,
) -> Result<usize, outbox_core::error::BoxError> {
    let mut request = RedriveRequest {
        max,
        ..redrive_all(after(1))
    };
    for steps in 1..100 {
        let report = quarantine.redrive(&request).await?;
        assert!(report.redriven.len() <= max);
        request.after = report.next;
        request.now = after(steps as u64);
        if request.after.is_none() {
            return Ok(steps);
        }
    }
    Err("a redrive that never ends".into())
}

async fn an_action_in_steps_is_one_record_of_the_audit(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene
            .bury(&["a", "b", "c", "d", "e"].map(message), "never", START)
            .await?;
        assert_eq!(in_steps(&*scene.quarantine, 2).await?, 3);
        let audit = scene.quarantine.audit(0, 10).await?;
        let [record] = &audit[..] else {
            return Err(format!("one record: {audit:?}").into());
        };
        assert_eq!((record.kind, record.letters), (ActionKind::Redrive, 5));
        assert_eq!((&record.action, record.what.as_str()), (&action(1), "all"));
        assert_eq!((record.began_at, record.ended_at), (after(1), after(2)));
        assert!(scene.quarantine.audit(record.number, 10).await?.is_empty());
    }
    Ok(())
}

async fn a_dropped_redrive_neither_loses_nor_doubles(harness: &dyn DlqHarness) -> CaseResult {
    for polls in 0.. {
        let mut finished = true;
        for scene in sides(harness).await? {
            scene.bury(&["a", "b"].map(message), "never", START).await?;
            let request = redrive_all(after(1));
            let redriving = scene.quarantine.redrive(&request);
            finished &= cut(redriving, polls).await.is_some();
            let (resting, undelivered, audited) = scene.whereabouts().await?;
            assert!(resting == 0 || resting == 2, "{resting}");
            assert_eq!(resting + undelivered, 2, "after {polls} polls");
            assert_eq!(audited, 2 - resting);
            scene.redrive(after(1)).await?;
            assert_eq!(scene.deliver_all(after(1)).await?, ["a", "b"]);
        }
        if finished {
            break;
        }
    }
    Ok(())
}
