use super::harness::OutboxHarness;
use super::relay::{LEASE, texts};
use super::scene::{START, Scene, after, failure, keyed, message, messages};
use super::table::{CORRUPTION, OutboxCase};
use crate::delivery::Leased;
use crate::error::BoxError;
use crate::ports::Outcome;
use crate::status::{HISTORY_LENGTH, OnFailure};
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[OutboxCase] = &[
    case!("10.2", a_quarantined_message_has_left_the_outbox),
    case!("10.4", a_quarantined_message_keeps_all_that_was_appended),
    case!("10.4", a_quarantined_message_keeps_its_failures),
    case!("10.4", a_quarantined_message_keeps_a_bounded_history),
    case!("4.5", a_message_may_be_quarantined_at_its_first_attempt),
    case!("10.2", a_quarantine_survives_reopening),
    case!("10.2", a_stale_quarantine_moves_nothing),
    case!(
        "12.7",
        an_unreadable_row_hides_none_of_its_neighbours,
        CORRUPTION
    ),
    case!(
        "12.7",
        an_unreadable_row_is_quarantined_and_told_once,
        CORRUPTION
    ),
    case!("12.7", an_unreadable_row_does_not_hold_its_key, CORRUPTION),
    case!(
        "12.7",
        rows_that_are_all_unreadable_leave_an_empty_outbox,
        CORRUPTION
    ),
    case!(
        "12.7",
        an_unreadable_row_is_told_by_the_claim_that_skips_it,
        CORRUPTION
    ),
];

async fn a_quarantined_message_has_left_the_outbox(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    let taken = scene.relay.take(2, START).await?;
    scene
        .relay
        .quarantine(&taken[0], OnFailure::BlockKey, START)
        .await?;
    scene.relay.publish(&taken[1..], START).await?;
    for now in [START, START + LEASE, after(1_000_000)] {
        assert!(scene.relay.take(10, now).await?.is_empty());
    }
    let stats = scene.outbox.stats(START).await?;
    assert_eq!(
        (stats.unsent(), stats.quarantined, stats.published),
        (0, 1, 1)
    );
    Ok(())
}

async fn a_quarantined_message_keeps_all_that_was_appended(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let new = keyed("k", "{}")
        .content_type("application/json")
        .header("correlation-id", "c-1")
        .header("tenant-id", "t-1")
        .aggregate("order", "7")
        .due_at(after(1));
    scene.append(&[new]).await?;
    let taken = scene.relay.take(1, after(1)).await?;
    scene
        .relay
        .quarantine(&taken[0], OnFailure::BlockKey, after(1))
        .await?;
    let resting = scene.store.quarantined().await?;
    assert_eq!(resting.len(), 1);
    assert_eq!(resting[0].message.as_ref(), Some(&taken[0].message));
    Ok(())
}

/// Fails the only message at each of the first `seconds`, at which it is tried anew.
async fn fail_each_second(scene: &Scene, seconds: u64) -> Result<Leased, BoxError> {
    for second in 0..seconds {
        let taken = scene.relay.take(1, after(second)).await?;
        let retry = Outcome::Retry {
            due_at: after(second + 1),
            failure: failure(after(second), &format!("error {second}")),
            on_failure: OnFailure::BlockKey,
        };
        scene
            .relay
            .settle_held(&taken, &retry, after(second))
            .await?;
    }
    let mut taken = scene.relay.take(1, after(seconds)).await?;
    taken.pop().ok_or_else(|| "the message is gone".into())
}

async fn a_quarantined_message_keeps_its_failures(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("a")]).await?;
    let leased = fail_each_second(&scene, 2).await?;
    scene
        .relay
        .quarantine(&leased, OnFailure::BlockKey, after(2))
        .await?;
    let resting = scene.store.quarantined().await?;
    let [entry] = &resting[..] else {
        return Err(format!("one message was quarantined: {resting:?}").into());
    };
    let expected = [
        failure(START, "error 0"),
        failure(after(1), "error 1"),
        failure(after(2), "refused"),
    ];
    assert_eq!((entry.attempts, &entry.history[..]), (3, &expected[..]));
    assert_eq!(
        (entry.first_failed_at, entry.last_failed_at),
        (START, after(2))
    );
    assert_eq!(
        (entry.kind.as_str(), entry.error.as_str()),
        ("failed", "refused")
    );
    assert!(!entry.place.is_empty());
    Ok(())
}

async fn a_quarantined_message_keeps_a_bounded_history(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("a")]).await?;
    let failures = HISTORY_LENGTH as u64 + 3;
    let leased = fail_each_second(&scene, failures).await?;
    scene
        .relay
        .quarantine(&leased, OnFailure::BlockKey, after(failures))
        .await?;
    let resting = scene.store.quarantined().await?;
    assert_eq!(resting[0].history.len(), HISTORY_LENGTH);
    assert_eq!(u64::from(resting[0].attempts), failures + 1);
    assert_eq!(
        resting[0].first_failed_at, START,
        "the first failure is known beyond the history"
    );
    Ok(())
}

async fn a_message_may_be_quarantined_at_its_first_attempt(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("refused"), message("next")]).await?;
    let taken = scene.relay.take(1, START).await?;
    scene
        .relay
        .quarantine(&taken[0], OnFailure::BlockKey, after(3))
        .await?;
    let resting = scene.store.quarantined().await?;
    assert_eq!((resting[0].attempts, resting[0].history.len()), (1, 1));
    assert_eq!(resting[0].first_failed_at, after(3));
    assert_eq!(scene.relay.drain(10, after(3)).await?, ["next"]);
    Ok(())
}

async fn a_quarantine_survives_reopening(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    let taken = scene.relay.take(1, START).await?;
    scene
        .relay
        .quarantine(&taken[0], OnFailure::BlockKey, START)
        .await?;
    scene.outbox.release(scene.relay.owner).await?;
    let scene = scene.reopen(2).await?;
    assert_eq!(scene.outbox.stats(START).await?.quarantined, 1);
    assert_eq!(scene.store.quarantined().await?.len(), 1);
    assert_eq!(scene.relay.drain(10, START).await?.len(), 1);
    Ok(())
}

async fn a_stale_quarantine_moves_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second = scene.relay(2).await?;
    scene.append(&[keyed("k", "a"), keyed("k", "b")]).await?;
    let stale = scene.relay.take(1, START).await?;
    let taken = second.take(2, START + LEASE).await?;
    let quarantine = Outcome::Quarantine {
        failure: failure(START, "refused"),
        on_failure: OnFailure::ParkKey,
    };
    scene
        .relay
        .settle(&stale, &quarantine, START + LEASE)
        .await?;
    assert!(scene.store.quarantined().await?.is_empty());
    assert!(
        !scene.outbox.resume_key("k").await?,
        "the stale relay parked the key"
    );
    second.publish(&taken, START + LEASE).await
}

/// Appends `texts` of key `k`, and damages the rows at `damaged`.
async fn damage(
    harness: &dyn OutboxHarness,
    texts: &[&str],
    damaged: &[usize],
) -> Result<Scene, BoxError> {
    let scene = Scene::new(harness).await?;
    let batch: Vec<_> = texts.iter().map(|text| keyed("k", text)).collect();
    scene.append(&batch).await?;
    let taken = scene.relay.take(texts.len(), START).await?;
    for index in damaged {
        scene.store.corrupt(taken[*index].token.sequence).await?;
    }
    scene.outbox.release(scene.relay.owner).await?;
    Ok(scene)
}

async fn an_unreadable_row_hides_none_of_its_neighbours(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = damage(harness, &["a", "b", "c", "d", "e"], &[2]).await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["a", "b", "d", "e"]);
    assert_eq!(scene.outbox.stats(START).await?.quarantined, 1);
    Ok(())
}

async fn an_unreadable_row_is_quarantined_and_told_once(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = damage(harness, &["a", "b", "c"], &[1]).await?;
    let mut told = Vec::new();
    for _ in 0..4 {
        let claim = scene.relay.claim(10, START).await?;
        scene.relay.publish(&claim.leased, START).await?;
        told.extend(claim.unreadable);
    }
    assert_eq!(told.len(), 1, "{told:?}");
    let resting = scene.store.quarantined().await?;
    assert_eq!((resting.len(), &resting[0].message), (1, &None));
    assert_eq!(resting[0].place, told[0].place);
    assert!(!told[0].problem.is_empty() && !resting[0].error.is_empty());
    Ok(())
}

async fn an_unreadable_row_does_not_hold_its_key(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = damage(harness, &["a", "b", "c"], &[0]).await?;
    assert_eq!(scene.relay.drain_in_order(1, START).await?, ["b", "c"]);
    scene.append(&[keyed("k", "d")]).await?;
    assert_eq!(scene.relay.drain(1, START).await?, ["d"]);
    Ok(())
}

async fn rows_that_are_all_unreadable_leave_an_empty_outbox(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = damage(harness, &["a", "b", "c"], &[0, 1, 2]).await?;
    assert!(scene.relay.take(10, START).await?.is_empty());
    let stats = scene.outbox.stats(START).await?;
    assert_eq!((stats.unsent(), stats.quarantined), (0, 3));
    scene.append(&[message("d")]).await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["d"]);
    Ok(())
}

async fn an_unreadable_row_is_told_by_the_claim_that_skips_it(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = damage(harness, &["a", "b", "c"], &[1]).await?;
    let claim = scene.relay.claim(10, START).await?;
    assert_eq!(texts(&claim.leased), ["a", "c"]);
    assert_eq!(claim.unreadable.len(), 1);
    Ok(())
}
