use std::sync::Arc;

use outbox_core::error::BoxError;
use outbox_core::id::Entropy;
use outbox_core::testing::CaseResult;

use super::given::{START, action, after, keyed, letter_texts, message};
use super::harness::DlqHarness;
use super::scene::{Scene, sides};
use super::table::{CORRUPTION, DlqCase, case};
use crate::{ActionKind, DiscardRequest, Filter, LetterId, Operator, RedriveConfig};

pub(super) const CASES: &[DlqCase] = &[
    case!("10.5", discarding_deletes_what_is_meant_in_bounded_batches),
    case!("10.5", a_discard_spares_what_came_to_rest_later),
    case!("10.4", an_exported_letter_comes_back_with_all_that_it_had),
    case!("10.4", an_imported_letter_can_be_redriven),
    case!("10.5", importing_twice_adds_nothing),
    case!("10.5", a_line_that_cannot_be_read_spoils_no_other),
    case!(
        "10.5",
        an_unreadable_letter_is_exported_and_imported,
        CORRUPTION
    ),
    case!("10.5", every_action_stands_in_the_audit),
];

fn operator(scene: &Scene) -> Operator {
    let clock = Arc::clone(&scene.clock);
    Operator::new(Arc::clone(&scene.quarantine), "grace").driven_by(clock, Entropy::seeded(7))
}

async fn exported(scene: &Scene) -> Result<Vec<u8>, BoxError> {
    let mut out = Vec::new();
    operator(scene).export(&Filter::default(), &mut out).await?;
    Ok(out)
}

async fn discarding_deletes_what_is_meant_in_bounded_batches(
    harness: &dyn DlqHarness,
) -> CaseResult {
    for scene in sides(harness).await? {
        scene
            .bury(&["a", "b", "c"].map(message), "no row 1", START)
            .await?;
        scene.bury(&["d"].map(message), "busy", START).await?;
        let mut request = DiscardRequest {
            filter: Filter::alike(scene.letters().await?[0].fingerprint),
            max: 2,
            action: action(3),
            now: after(1),
        };
        let first = scene.quarantine.discard(&request).await?;
        assert_eq!((first.discarded, first.more), (2, true));
        let second = scene.quarantine.discard(&request).await?;
        assert_eq!((second.discarded, second.more), (1, false));
        assert_eq!(letter_texts(&scene.letters().await?), ["d"]);
        assert_eq!(scene.undelivered().await?, 0);
        let audit = scene.quarantine.audit(0, 10).await?;
        assert_eq!((audit.len(), audit[0].letters), (1, 3));
        request.filter = Filter::one(LetterId(1_000_000));
        assert_eq!(scene.quarantine.discard(&request).await?.discarded, 0);
    }
    Ok(())
}

async fn a_discard_spares_what_came_to_rest_later(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene.bury(&["a", "b"].map(message), "no", START).await?;
        let last = scene.quarantine.last().await?;
        scene.bury(&["c"].map(message), "no", START).await?;
        let request = DiscardRequest {
            filter: Filter {
                up_to: last,
                ..Filter::default()
            },
            max: usize::MAX,
            action: action(3),
            now: START,
        };
        let report = scene.quarantine.discard(&request).await?;
        assert_eq!((report.discarded, report.more), (2, false));
        assert_eq!(letter_texts(&scene.letters().await?), ["c"]);
    }
    Ok(())
}

async fn an_exported_letter_comes_back_with_all_that_it_had(
    harness: &dyn DlqHarness,
) -> CaseResult {
    for scene in sides(harness).await? {
        let new = keyed("k", "\u{0}\u{1F600}\n")
            .header("tenant-id", "t \"1\"\n")
            .aggregate("order", "7");
        scene
            .bury(&[new, message("")], "no \u{1F4A9} \"row\"\n", START)
            .await?;
        let before = scene.letters().await?;
        let lines = exported(&scene).await?;
        assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 2);
        operator(&scene)
            .discard(&Filter::default(), "moved")
            .await?;
        let summary = operator(&scene).import(&mut &lines[..], "moved").await?;
        assert_eq!(
            (summary.imported, summary.duplicates, summary.unreadable),
            (2, 0, 0)
        );
        let mut came_back = scene.letters().await?;
        for (letter, before) in came_back.iter_mut().zip(&before) {
            assert!(letter.id > before.id, "numbers are never used again");
            letter.id = before.id;
        }
        assert_eq!(came_back, before);
    }
    Ok(())
}

async fn an_imported_letter_can_be_redriven(harness: &dyn DlqHarness) -> CaseResult {
    for (scene, fresh) in sides(harness).await?.into_iter().zip(sides(harness).await?) {
        scene
            .bury(
                &["a", "b", "c"].map(|text| keyed("k", text)),
                "never",
                START,
            )
            .await?;
        let lines = exported(&scene).await?;
        // There, the same places are others' already.
        fresh.put(&["x", "y"].map(message)).await?;
        operator(&fresh).import(&mut &lines[..], "").await?;
        fresh.clock.set(after(5));
        let shutdown = outbox_core::signal::Shutdown::new();
        let config = RedriveConfig::default();
        let summary = operator(&fresh)
            .redrive(&Filter::default(), &config, &shutdown)
            .await?;
        assert_eq!((summary.redriven, summary.refused), (3, 0));
        let mut delivered = fresh.deliver_all(after(5)).await?;
        delivered.retain(|text| !["x", "y"].contains(&text.as_str()));
        assert_eq!(delivered, ["a", "b", "c"]);
        assert_eq!(fresh.undelivered().await?, 0);
    }
    Ok(())
}

async fn importing_twice_adds_nothing(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene.bury(&["a", "b"].map(message), "never", START).await?;
        let mut lines = exported(&scene).await?;
        lines.extend(lines.clone());
        let summary = operator(&scene).import(&mut &lines[..], "").await?;
        assert_eq!((summary.imported, summary.duplicates), (0, 4));
        assert_eq!(scene.letters().await?.len(), 2);
    }
    Ok(())
}

async fn a_line_that_cannot_be_read_spoils_no_other(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene.bury(&["a", "b"].map(message), "never", START).await?;
        let lines = String::from_utf8(exported(&scene).await?)?;
        operator(&scene).discard(&Filter::default(), "").await?;
        let (first, second) = lines.split_once('\n').ok_or("two lines")?;
        let newer = first.replace("\"dead_letter\":1", "\"dead_letter\":99");
        let spoilt = format!("{{\n{first}\n{newer}\nnonsense\n{second}");
        let summary = operator(&scene).import(&mut spoilt.as_bytes(), "").await?;
        assert_eq!((summary.imported, summary.unreadable), (2, 3));
        let places: Vec<_> = summary.problems.iter().map(|(line, _)| *line).collect();
        assert_eq!(places, [1, 3, 4]);
        assert_eq!(letter_texts(&scene.letters().await?), ["a", "b"]);
    }
    Ok(())
}

async fn an_unreadable_letter_is_exported_and_imported(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene.put(&[message("a")]).await?;
        let taken = scene.take(1, START).await?;
        scene.retry(&taken, "no luck", START).await?;
        scene.stop().await?;
        scene.store.corrupt(&taken[0].message).await?;
        assert!(scene.take(1, after(1)).await?.is_empty());
        let before = scene.only_letter().await?;
        let mut lines = exported(&scene).await?;
        operator(&scene).discard(&Filter::default(), "").await?;
        lines.extend(lines.clone());
        let summary = operator(&scene).import(&mut &lines[..], "").await?;
        assert_eq!((summary.imported, summary.duplicates), (1, 1));
        let mut came_back = scene.only_letter().await?;
        came_back.id = before.id;
        assert_eq!(came_back, before);
    }
    Ok(())
}

async fn every_action_stands_in_the_audit(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene
            .bury(&["a", "b", "c"].map(message), "never", START)
            .await?;
        let lines = exported(&scene).await?;
        let operator = operator(&scene);
        let first = scene.numbers().await?[0];
        operator
            .redrive_one(first, &RedriveConfig::default())
            .await?;
        scene.clock.set(after(1));
        operator.discard(&Filter::default(), "hopeless").await?;
        scene.clock.set(after(2));
        operator.import(&mut &lines[..], "a mistake").await?;
        let audit = scene.quarantine.audit(0, 10).await?;
        let told: Vec<_> = audit
            .iter()
            .map(|r| (r.kind, r.letters, r.began_at, r.action.reason.as_str()))
            .collect();
        let expected = [
            (ActionKind::Redrive, 1, START, ""),
            (ActionKind::Discard, 2, after(1), "hopeless"),
            (ActionKind::Import, 3, after(2), "a mistake"),
        ];
        assert_eq!(told, expected);
        assert!(audit.iter().all(|record| record.action.by == "grace"));
        assert_eq!(audit[0].what, format!("id {first}"));
        assert_eq!(scene.quarantine.audit(1, 1).await?, audit[1..2]);
    }
    Ok(())
}
