use outbox_core::message::Kind;
use outbox_core::testing::{CaseResult, cut};

use super::given::{START, after, keyed, letter_texts, message};
use super::harness::DlqHarness;
use super::heap::id;
use super::scene::{Scene, sides};
use super::table::{BOTH, DlqCase, OUTBOX, case};
use crate::{Move, Origin};

pub(super) const CASES: &[DlqCase] = &[
    case!("10.2", a_failing_message_moves_out_of_what_it_was_in),
    case!("10.4", a_moved_message_keeps_all_that_it_had),
    case!("10.2", a_message_in_flight_is_left_alone),
    case!("10.2", a_message_that_is_gone_is_told_as_gone),
    case!("12.18", moving_twice_moves_once),
    case!("3.2", a_moved_message_no_longer_holds_its_key, OUTBOX),
    case!("10.2", answers_come_in_the_order_of_the_entries),
    case!("10.2", what_was_given_up_rests_in_the_same_quarantine),
    case!("10.2", each_message_leaves_its_own_side, BOTH),
    case!("10.2", a_batch_of_1000_moves_whole),
    case!("10.4", messages_that_differ_in_all_move_together),
    case!("7.2", a_dropped_move_neither_loses_nor_doubles),
];

async fn a_failing_message_moves_out_of_what_it_was_in(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let ids = scene.fail(&[message("a"), message("b")], START).await?;
        assert_eq!(scene.quarantine(&ids[..1], START).await?, [Move::Moved]);
        assert_eq!(letter_texts(&scene.letters().await?), ["a"]);
        assert_eq!(scene.undelivered().await?, 1);
        assert_eq!(scene.deliver_all(after(60)).await?, ["b"]);
    }
    Ok(())
}

async fn a_moved_message_keeps_all_that_it_had(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let new = keyed("k", "{}")
            .content_type("application/json")
            .header("correlation-id", "c-1")
            .header("tenant-id", "t \u{1F600} \"1\"")
            .aggregate("order", "7");
        scene.put(&[new]).await?;
        let taken = scene.take(1, START).await?;
        scene.retry(&taken, "error 1", START).await?;
        let taken = scene.take(1, after(2)).await?;
        scene.retry(&taken, "error 2", after(2)).await?;
        let sent = &taken[0].message;
        let moved = scene.quarantine(&[sent.id], after(2)).await?;
        assert_eq!(moved, [Move::Moved]);
        let letter = scene.only_letter().await?;
        let mut kept = letter.message.clone().ok_or("the message is readable")?;
        kept.epoch = sent.epoch;
        assert_eq!(kept, *sent);
        assert_eq!((letter.attempts, letter.history.len()), (2, 2));
        assert_eq!(
            (letter.first_failed_at, letter.last_failed_at),
            (START, after(2))
        );
        assert_eq!(
            (letter.kind.as_str(), letter.error.as_str()),
            ("failed", "error 2")
        );
        assert_eq!((letter.quarantined_at, letter.redrives), (after(2), 0));
        assert_eq!(letter.origin, scene.origin);
        assert!(!letter.place.is_empty() && letter.problem.is_none());
    }
    Ok(())
}

async fn messages_that_differ_in_all_move_together(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let large = |letter: &str| letter.repeat(40_000);
        let new = [
            message("small"),
            message(&large("a")).content_type("text/plain"),
            keyed("key", "")
                .header("trace", "1")
                .aggregate("order", "7"),
            message(&large("b")).kind(Kind {
                version: 3,
                ..Kind::new("other")
            }),
            keyed("other key", "small, too").content_type("application/cbor"),
        ];
        scene.put(&new).await?;
        let taken = scene.take(new.len(), START).await?;
        scene.retry(&taken, "no luck", START).await?;
        let ids: Vec<_> = taken.iter().map(|delivery| delivery.message.id).collect();
        let moved = scene.quarantine(&ids, START).await?;
        assert_eq!(moved, [Move::Moved; 5]);
        let letters = scene.letters().await?;
        assert_eq!(letters.len(), new.len());
        for (letter, delivery) in letters.into_iter().zip(taken) {
            let mut kept = letter.message.ok_or("the message is readable")?;
            kept.epoch = delivery.message.epoch;
            assert_eq!(kept, delivery.message);
        }
    }
    Ok(())
}

async fn a_message_in_flight_is_left_alone(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let ids = scene.fail(&[message("a")], START).await?;
        let taken = scene.take(1, after(1)).await?;
        assert_eq!(scene.quarantine(&ids, after(1)).await?, [Move::InFlight]);
        assert!(scene.letters().await?.is_empty());
        scene.deliver(&taken, after(1)).await?;
        assert_eq!(scene.quarantine(&ids, after(1)).await?, [Move::Gone]);
    }
    Ok(())
}

async fn a_message_that_is_gone_is_told_as_gone(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let ids = scene.put(&[message("a")]).await?;
        scene.deliver_all(START).await?;
        assert_eq!(scene.quarantine(&ids, START).await?, [Move::Gone]);
        assert_eq!(scene.quarantine(&[id(9)], START).await?, [Move::Gone]);
        let mut entry = scene.entry(id(9));
        entry.subject.origin = Origin::Queue("nowhere".to_owned());
        let moves = scene.quarantine.quarantine(&[entry], START).await?;
        assert_eq!(moves, [Move::Gone]);
        assert_eq!(scene.quarantine(&[], START).await?, []);
    }
    Ok(())
}

async fn moving_twice_moves_once(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let ids = scene.fail(&[message("a")], START).await?;
        assert_eq!(scene.quarantine(&ids, START).await?, [Move::Moved]);
        assert_eq!(scene.quarantine(&ids, START).await?, [Move::Gone]);
        scene.only_letter().await?;
        assert_eq!(scene.undelivered().await?, 0);
    }
    Ok(())
}

async fn a_moved_message_no_longer_holds_its_key(harness: &dyn DlqHarness) -> CaseResult {
    let scene = Scene::new(harness, Origin::Outbox).await?;
    let ids = scene
        .put(&[keyed("k", "a"), keyed("k", "b"), keyed("k", "c")])
        .await?;
    let taken = scene.take(1, START).await?;
    scene.retry(&taken, "no luck", START).await?;
    // The others are met and set aside behind it.
    assert!(scene.take(10, START).await?.is_empty());
    assert_eq!(scene.quarantine(&ids[..1], START).await?, [Move::Moved]);
    assert_eq!(scene.deliver_all(START).await?, ["b", "c"]);
    Ok(())
}

async fn answers_come_in_the_order_of_the_entries(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let failed = scene.fail(&[message("a"), message("b")], START).await?;
        let held = scene.put(&[message("c")]).await?;
        let taken = scene.take(1, START).await?;
        assert_eq!(taken.len(), 1);
        let ids = [failed[1], id(9), held[0], failed[0]];
        let moves = scene.quarantine(&ids, START).await?;
        assert_eq!(
            moves,
            [Move::Moved, Move::Gone, Move::InFlight, Move::Moved]
        );
    }
    Ok(())
}

async fn what_was_given_up_rests_in_the_same_quarantine(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        scene.bury(&[message("refused")], "never", START).await?;
        let ids = scene.fail(&[message("failing")], START).await?;
        scene.quarantine(&ids, START).await?;
        let letters = scene.letters().await?;
        assert_eq!(letter_texts(&letters), ["refused", "failing"]);
        let errors: Vec<_> = letters.iter().map(|letter| letter.error.as_str()).collect();
        assert_eq!(errors, ["never", "no luck"]);
    }
    Ok(())
}

async fn each_message_leaves_its_own_side(harness: &dyn DlqHarness) -> CaseResult {
    let scene = Scene::new(harness, Origin::Outbox).await?;
    let ids = scene.fail(&[message("a")], START).await?;
    let mut entry = scene.entry(ids[0]);
    entry.subject.origin = Origin::Queue("kit".to_owned());
    scene.store.queue().await?;
    let moves = scene.quarantine.quarantine(&[entry], START).await?;
    assert_eq!(moves, [Move::Gone]);
    assert_eq!(scene.undelivered().await?, 1);
    Ok(())
}

async fn a_batch_of_1000_moves_whole(harness: &dyn DlqHarness) -> CaseResult {
    for scene in sides(harness).await? {
        let batch: Vec<_> = (0..1_000)
            .map(|number| message(&number.to_string()))
            .collect();
        let ids = scene.fail(&batch, START).await?;
        let moves = scene.quarantine(&ids, START).await?;
        assert!(moves.iter().all(|told| *told == Move::Moved));
        assert_eq!(scene.letters().await?.len(), 1_000);
        assert_eq!(scene.undelivered().await?, 0);
    }
    Ok(())
}

async fn a_dropped_move_neither_loses_nor_doubles(harness: &dyn DlqHarness) -> CaseResult {
    for polls in 0.. {
        let mut finished = true;
        for scene in sides(harness).await? {
            let ids = scene.fail(&[message("a"), message("b")], START).await?;
            let entries: Vec<_> = ids.iter().map(|id| scene.entry(*id)).collect();
            let moving = scene.quarantine.quarantine(&entries, START);
            finished &= cut(moving, polls).await.is_some();
            let (resting, undelivered, _) = scene.whereabouts().await?;
            assert!(resting == 0 || resting == 2, "{resting}");
            assert_eq!(resting + undelivered, 2, "after {polls} polls");
            let moves = scene.quarantine(&ids, START).await?;
            assert!(!moves.contains(&Move::InFlight));
            assert_eq!(scene.letters().await?.len(), 2);
        }
        if finished {
            break;
        }
    }
    Ok(())
}
