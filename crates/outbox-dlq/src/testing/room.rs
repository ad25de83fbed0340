use std::sync::Arc;
use std::time::Duration;

use outbox_core::error::BoxError;
use outbox_core::signal::Shutdown;
use outbox_core::testing::CaseResult;

use super::given::{START, after, keyed, message, redrive_all};
use super::harness::DlqHarness;
use super::scene::Scene;
use super::table::{DlqCase, HIGH_WATER, case};
use crate::{DlqError, Filter, Operator, Origin, RedriveConfig, RedriveReport, RedriveRequest};

pub(super) const CASES: &[DlqCase] = &[
    case!(
        "8.2",
        a_redrive_fills_a_queue_to_its_high_water_and_no_further,
        HIGH_WATER
    ),
    case!("8.2", what_is_refused_needs_no_room, HIGH_WATER),
    case!("8.2", an_operator_waits_for_room, HIGH_WATER),
    case!(
        "8.2",
        one_that_does_not_fit_is_told_to_its_operator,
        HIGH_WATER
    ),
];

fn kit() -> Origin {
    Origin::Queue("kit".to_owned())
}

/// A queue with room for three, five dead letters of one key, and `waiting` messages in it.
async fn scene(harness: &dyn DlqHarness, waiting: usize) -> Result<Scene, BoxError> {
    let scene = Scene::with_high_water(harness, kit(), Some(3)).await?;
    for names in [&["a", "b", "c"][..], &["d", "e"]] {
        let names: Vec<_> = names.iter().map(|name| keyed("k", name)).collect();
        scene.bury(&names, "never", START).await?;
    }
    scene.put(&vec![message("new"); waiting]).await?;
    Ok(scene)
}

/// Sends back what is behind the end of `last`.
async fn go_on(
    scene: &Scene,
    last: &RedriveReport,
    second: u64,
) -> Result<RedriveReport, BoxError> {
    let request = RedriveRequest {
        after: last.next.clone(),
        ..redrive_all(after(second))
    };
    Ok(scene.quarantine.redrive(&request).await?)
}

async fn a_redrive_fills_a_queue_to_its_high_water_and_no_further(
    harness: &dyn DlqHarness,
) -> CaseResult {
    let scene = scene(harness, 2).await?;
    let numbers = scene.numbers().await?;
    let first = scene.redrive(after(1)).await?;
    assert_eq!(
        (&first.redriven[..], &first.refused[..]),
        (&numbers[..1], &[][..])
    );
    assert_eq!(first.full, Some(kit()));
    assert_eq!(
        (scene.undelivered().await?, scene.letters().await?.len()),
        (3, 4)
    );
    let audit = scene.quarantine.audit(0, 10).await?;
    assert_eq!(audit.iter().map(|record| record.letters).sum::<u64>(), 1);
    let none = go_on(&scene, &first, 2).await?;
    assert_eq!(
        (none.redriven.len(), &none.full, &none.next),
        (0, &first.full, &first.next)
    );
    scene.deliver_all(after(3)).await?;
    let dry = RedriveRequest {
        dry_run: true,
        ..redrive_all(after(3))
    };
    let dry = scene.quarantine.redrive(&dry).await?;
    assert_eq!((dry.redriven.len(), dry.full, dry.next), (4, None, None));
    let second = go_on(&scene, &none, 3).await?;
    assert_eq!((second.redriven.len(), &second.full), (3, &Some(kit())));
    assert_eq!(scene.deliver_all(after(4)).await?, ["b", "c", "d"]);
    let last = go_on(&scene, &second, 5).await?;
    assert_eq!((last.redriven.len(), last.full, last.next), (1, None, None));
    assert_eq!(scene.deliver_all(after(5)).await?, ["e"]);
    Ok(())
}

async fn what_is_refused_needs_no_room(harness: &dyn DlqHarness) -> CaseResult {
    let scene = scene(harness, 3).await?;
    let request = RedriveRequest {
        max_redrives: Some(0),
        ..redrive_all(after(1))
    };
    let report = scene.quarantine.redrive(&request).await?;
    assert_eq!(
        (report.refused.len(), report.full, report.next),
        (5, None, None)
    );
    Ok(())
}

async fn an_operator_waits_for_room(harness: &dyn DlqHarness) -> CaseResult {
    let scene = scene(harness, 3).await?;
    let operator = Operator::new(Arc::clone(&scene.quarantine), "ada")
        .driven_by(Arc::clone(&scene.clock) as _, scene.entropy());
    scene.clock.set(after(1));
    let (all, config, shutdown) = (Filter::default(), RedriveConfig::default(), Shutdown::new());
    let work = async {
        let mut delivered = Vec::new();
        while delivered.len() < 8 {
            delivered.extend(scene.deliver_all(after(2)).await?);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok::<_, BoxError>(delivered)
    };
    let (summary, delivered) = tokio::join!(operator.redrive(&all, &config, &shutdown), work);
    let summary = summary?;
    assert_eq!((summary.redriven, summary.refused), (5, 0));
    assert_eq!((summary.stopped, summary.full), (false, vec![]));
    assert_eq!(delivered?[3..], ["a", "b", "c", "d", "e"]);
    let scene = self::scene(harness, 3).await?;
    let operator = Operator::new(Arc::clone(&scene.quarantine), "ada")
        .driven_by(Arc::clone(&scene.clock) as _, scene.entropy());
    scene.clock.set(after(1));
    shutdown.trigger();
    let summary = operator.redrive(&all, &config, &shutdown).await?;
    assert_eq!((summary.redriven, summary.stopped), (0, true));
    assert_eq!(summary.full, [kit()]);
    Ok(())
}

async fn one_that_does_not_fit_is_told_to_its_operator(harness: &dyn DlqHarness) -> CaseResult {
    let scene = scene(harness, 3).await?;
    let operator = Operator::new(Arc::clone(&scene.quarantine), "ada");
    let id = scene.numbers().await?[2];
    let config = RedriveConfig::default();
    let told = operator.redrive_one(id, &config).await;
    let expected = (id, kit());
    assert!(
        matches!(&told, Err(DlqError::Full { id, origin }) if (*id, origin.clone()) == expected),
        "{told:?}"
    );
    scene.deliver_all(after(1)).await?;
    operator.redrive_one(id, &config).await?;
    Ok(())
}
