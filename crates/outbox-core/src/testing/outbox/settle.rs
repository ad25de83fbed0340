use super::harness::OutboxHarness;
use super::relay::{LEASE, settlements, texts};
use super::scene::{START, Scene, TICK, after, failure, keyed, message, messages};
use super::table::{IN_KEY_ORDER, OutboxCase};
use crate::ports::{Outcome, Settlement};
use crate::status::{HISTORY_LENGTH, OnFailure};
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[OutboxCase] = &[
    case!("4.2", a_stale_token_settles_nothing),
    case!(
        "4.2",
        a_stale_settlement_is_told_by_its_place_in_the_request
    ),
    case!("4.2", the_same_settlement_takes_effect_once),
    case!("4.2", settling_nothing_changes_nothing),
    case!(
        "4.2",
        a_lease_that_has_ended_and_that_nobody_took_still_settles
    ),
    case!("4.4", each_message_of_a_batch_is_settled_for_itself),
    case!("4.4", a_batch_of_2000_is_settled_in_one_call),
    case!("4.5", a_failed_attempt_is_counted_and_recorded),
    case!("4.5", the_history_of_attempts_is_kept_in_order),
    case!("4.5", the_history_is_bounded_and_the_count_is_not),
    case!("4.5", attempts_and_history_survive_a_takeover),
    case!("4.4", a_released_message_costs_no_attempt_and_comes_at_once),
    case!(
        "3.1",
        a_released_message_comes_back_in_its_old_place,
        IN_KEY_ORDER
    ),
];

/// One outcome of each kind.
fn every_outcome() -> [Outcome; 5] {
    [
        Outcome::Published,
        Outcome::Release,
        Outcome::Hold { until: START },
        retry(1),
        Outcome::Quarantine {
            failure: failure(START, "refused"),
            on_failure: OnFailure::ParkKey,
        },
    ]
}

fn retry(second: u64) -> Outcome {
    Outcome::Retry {
        due_at: after(second),
        failure: failure(after(second), &format!("error {second}")),
        on_failure: OnFailure::BlockKey,
    }
}

async fn a_stale_token_settles_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    for outcome in every_outcome() {
        let scene = Scene::new(harness).await?;
        let second = scene.relay(2).await?;
        scene.append(&[keyed("k", "a")]).await?;
        let stale = scene.relay.take(1, START).await?;
        let taken = second.take(1, START + LEASE).await?;
        let report = scene.relay.settle(&stale, &outcome, START + LEASE).await?;
        assert_eq!((report.settled, report.lost), (0, vec![0]), "{outcome:?}");
        assert!(
            second.take(1, START + LEASE).await?.is_empty(),
            "{outcome:?}"
        );
        assert_eq!(scene.outbox.stats(START + LEASE).await?.unsent(), 1);
        second
            .fail(&taken[0], after(100), OnFailure::BlockKey, START + LEASE)
            .await?;
        let again = second.take(1, after(100)).await?;
        assert_eq!(again[0].attempt, 2, "the stale {outcome:?} was counted");
        assert_eq!(again[0].history.len(), 1);
    }
    Ok(())
}

async fn a_stale_settlement_is_told_by_its_place_in_the_request(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second = scene.relay(2).await?;
    scene.append(&messages(["a", "b", "c"])).await?;
    let stale = scene.relay.take(3, START).await?;
    let held = second.take(3, START + LEASE).await?;
    let mixed = [
        stale[0].clone(),
        held[1].clone(),
        stale[2].clone(),
        held[0].clone(),
    ];
    let report = second
        .settle(&mixed, &Outcome::Published, START + LEASE)
        .await?;
    assert_eq!((report.settled, report.lost), (2, vec![0, 2]));
    assert_eq!(scene.outbox.stats(START + LEASE).await?.unsent(), 1);
    second.publish(&held[2..], START + LEASE).await
}

async fn the_same_settlement_takes_effect_once(harness: &dyn OutboxHarness) -> CaseResult {
    for outcome in [Outcome::Published, retry(9), every_outcome()[4].clone()] {
        let scene = Scene::new(harness).await?;
        scene.append(&[message("a")]).await?;
        let taken = scene.relay.take(1, START).await?;
        let twice = [taken[0].clone(), taken[0].clone()];
        let report = scene.relay.settle(&twice, &outcome, START).await?;
        assert_eq!((report.settled, report.lost), (1, vec![1]), "{outcome:?}");
        let report = scene.relay.settle(&taken, &outcome, START).await?;
        assert_eq!((report.settled, report.lost), (0, vec![0]), "{outcome:?}");
        let again = scene.relay.take(1, after(9)).await?;
        assert!(
            again.iter().all(|leased| leased.attempt == 2),
            "{outcome:?}"
        );
    }
    Ok(())
}

async fn settling_nothing_changes_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let report = scene.outbox.settle(&[], START).await?;
    assert_eq!((report.settled, report.lost.len()), (0, 0));
    Ok(())
}

async fn a_lease_that_has_ended_and_that_nobody_took_still_settles(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    let taken = scene.relay.take(2, START).await?;
    scene.relay.publish(&taken, START + LEASE + TICK).await?;
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    Ok(())
}

async fn each_message_of_a_batch_is_settled_for_itself(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene
        .append(&messages([
            "published",
            "released",
            "held",
            "failed",
            "refused",
        ]))
        .await?;
    let taken = scene.relay.take(5, START).await?;
    let mut outcomes = every_outcome();
    outcomes[2] = Outcome::Hold { until: after(2) };
    let settlements: Vec<_> = taken
        .iter()
        .zip(outcomes)
        .map(|(leased, outcome)| Settlement {
            token: leased.token,
            outcome,
        })
        .collect();
    let report = scene.outbox.settle(&settlements, START).await?;
    assert_eq!((report.settled, report.lost.len()), (5, 0));
    assert_eq!(scene.relay.drain(5, START).await?, ["released"]);
    let failed = scene.relay.take(5, after(1)).await?;
    assert_eq!(
        (texts(&failed), failed[0].attempt),
        (vec!["failed".to_owned()], 2)
    );
    scene.relay.publish(&failed, after(1)).await?;
    let held = scene.relay.take(5, after(2)).await?;
    assert_eq!(
        (texts(&held), held[0].attempt),
        (vec!["held".to_owned()], 1)
    );
    assert_eq!(scene.outbox.stats(after(2)).await?.quarantined, 1);
    Ok(())
}

async fn a_batch_of_2000_is_settled_in_one_call(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&vec![message("x"); 2_000]).await?;
    let taken = scene.relay.take(2_000, START).await?;
    assert_eq!(taken.len(), 2_000);
    scene.relay.publish(&taken, START).await?;
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    Ok(())
}

async fn a_failed_attempt_is_counted_and_recorded(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("a")]).await?;
    let taken = scene.relay.take(1, START).await?;
    scene.relay.settle_held(&taken, &retry(1), START).await?;
    let retried = scene.relay.take(1, after(1)).await?;
    assert_eq!(retried[0].attempt, 2);
    assert_eq!(retried[0].history, [failure(after(1), "error 1")]);
    Ok(())
}

async fn the_history_of_attempts_is_kept_in_order(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("a")]).await?;
    for second in 1..=4 {
        let taken = scene.relay.take(1, after(second - 1)).await?;
        scene
            .relay
            .settle_held(&taken, &retry(second), after(second - 1))
            .await?;
    }
    let taken = scene.relay.take(1, after(4)).await?;
    let expected: Vec<_> = (1..=4)
        .map(|n| failure(after(n), &format!("error {n}")))
        .collect();
    assert_eq!((taken[0].attempt, &taken[0].history), (5, &expected));
    Ok(())
}

async fn the_history_is_bounded_and_the_count_is_not(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("a")]).await?;
    let failures = HISTORY_LENGTH as u64 + 4;
    for second in 1..=failures {
        let taken = scene.relay.take(1, after(second - 1)).await?;
        assert_eq!(u64::from(taken[0].attempt), second);
        scene
            .relay
            .settle_held(&taken, &retry(second), after(second - 1))
            .await?;
    }
    let taken = scene.relay.take(1, after(failures)).await?;
    let history = &taken[0].history;
    assert_eq!(history.len(), HISTORY_LENGTH);
    assert_eq!(
        history.first(),
        Some(&failure(after(5), "error 5")),
        "the oldest are dropped"
    );
    Ok(())
}

async fn attempts_and_history_survive_a_takeover(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("a")]).await?;
    let taken = scene.relay.take(1, START).await?;
    scene.relay.settle_held(&taken, &retry(1), START).await?;
    assert_eq!(scene.relay.take(1, after(1)).await?.len(), 1);
    let scene = scene.reopen(2).await?;
    let taken = scene.relay.take(1, after(1) + LEASE).await?;
    assert_eq!((taken[0].attempt, taken[0].history.len()), (2, 1));
    Ok(())
}

async fn a_released_message_costs_no_attempt_and_comes_at_once(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("a")]).await?;
    for _ in 0..20 {
        let taken = scene.relay.take(1, START).await?;
        assert_eq!((taken.len(), taken[0].attempt), (1, 1));
        scene
            .relay
            .settle_held(&taken, &Outcome::Release, START)
            .await?;
    }
    Ok(())
}

async fn a_released_message_comes_back_in_its_old_place(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let batch = ["a", "b", "c", "d", "e"].map(|text| keyed("k", text));
    scene.append(&batch).await?;
    let taken = scene.relay.take_in_order(4, START).await?;
    let mut settled = settlements(&taken[..1], &Outcome::Published);
    settled.extend(settlements(&taken[1..], &Outcome::Release));
    scene.outbox.settle(&settled, START).await?;
    assert_eq!(
        scene.relay.drain_in_order(2, START).await?,
        ["b", "c", "d", "e"]
    );
    Ok(())
}
