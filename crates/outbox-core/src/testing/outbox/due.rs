use super::harness::OutboxHarness;
use super::relay::texts;
use super::scene::{START, Scene, TICK, after, keyed, message, messages};
use super::table::OutboxCase;
use crate::status::OnFailure;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[OutboxCase] = &[
    case!(
        "5.3",
        a_delayed_message_comes_at_its_due_time_and_not_before
    ),
    case!("5.3", a_claim_tells_the_next_due_time),
    case!("5.3", the_earliest_of_several_due_times_is_told),
    case!("5.3", a_retry_comes_at_its_due_time_and_not_before),
    case!("5.3", nothing_is_due_where_nothing_waits),
    case!("5.3", a_due_time_survives_reopening),
    case!("2.2", a_delayed_message_holds_up_no_other),
    case!("2.2", a_thousand_delayed_messages_come_when_they_are_due),
];

async fn a_delayed_message_comes_at_its_due_time_and_not_before(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("later").due_at(after(10))]).await?;
    for now in [START, after(9), after(10) - TICK] {
        assert!(
            scene.relay.take(10, now).await?.is_empty(),
            "claimed at {now}"
        );
    }
    let taken = scene.relay.take(10, after(10)).await?;
    assert_eq!(texts(&taken), ["later"]);
    assert_eq!((taken[0].attempt, taken[0].message.due_at), (1, after(10)));
    Ok(())
}

async fn a_claim_tells_the_next_due_time(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene
        .append(&[message("later").due_at(after(10) + TICK), message("now")])
        .await?;
    let first = scene.relay.claim(10, START).await?;
    assert_eq!(texts(&first.leased), ["now"]);
    let second = scene.relay.claim(10, after(1)).await?;
    for claim in [first, second] {
        assert_eq!(
            (claim.next_due, claim.more),
            (Some(after(10) + TICK), false)
        );
    }
    Ok(())
}

async fn the_earliest_of_several_due_times_is_told(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let delayed = [30, 10, 20].map(|second| message("x").due_at(after(second)));
    scene.append(&delayed).await?;
    for second in [10, 20, 30] {
        let early = scene.relay.claim(10, after(second) - TICK).await?;
        assert_eq!(
            (early.leased.len(), early.next_due),
            (0, Some(after(second)))
        );
        let taken = scene.relay.take(10, after(second)).await?;
        assert_eq!(taken.len(), 1);
        scene.relay.publish(&taken, after(second)).await?;
    }
    Ok(())
}

async fn a_retry_comes_at_its_due_time_and_not_before(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("a")]).await?;
    let taken = scene.relay.take(1, START).await?;
    scene
        .relay
        .fail(&taken[0], after(7), OnFailure::BlockKey, START)
        .await?;
    let early = scene.relay.claim(1, after(7) - TICK).await?;
    assert_eq!((early.leased.len(), early.next_due), (0, Some(after(7))));
    let retried = scene.relay.take(1, after(7)).await?;
    assert_eq!((retried.len(), retried[0].attempt), (1, 2));
    Ok(())
}

async fn nothing_is_due_where_nothing_waits(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    let claim = scene.relay.claim(10, START).await?;
    assert_eq!((claim.leased.len(), claim.next_due), (2, None));
    scene.relay.publish(&claim.leased, START).await?;
    let claim = scene.relay.claim(10, START).await?;
    assert_eq!((claim.leased.len(), claim.next_due), (0, None));
    Ok(())
}

async fn a_due_time_survives_reopening(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene
        .append(&[message("later").due_at(after(10)), message("failed")])
        .await?;
    let taken = scene.relay.take(10, START).await?;
    scene
        .relay
        .fail(&taken[0], after(5), OnFailure::BlockKey, START)
        .await?;
    scene.outbox.release(scene.relay.owner).await?;
    let scene = scene.reopen(2).await?;
    assert_eq!(scene.relay.claim(10, START).await?.next_due, Some(after(5)));
    assert_eq!(scene.relay.drain(10, after(5)).await?, ["failed"]);
    assert_eq!(scene.relay.drain(10, after(10)).await?, ["later"]);
    Ok(())
}

async fn a_delayed_message_holds_up_no_other(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let delayed = keyed("k", "later").due_at(after(10));
    scene
        .append(&[delayed, message("a"), keyed("other", "b")])
        .await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["a", "b"]);
    Ok(())
}

async fn a_thousand_delayed_messages_come_when_they_are_due(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let delayed: Vec<_> = (0..1_000)
        .map(|n| message(&n.to_string()).due_at(after(1 + n % 2)))
        .collect();
    scene.append(&delayed).await?;
    assert!(scene.relay.take(2_000, START).await?.is_empty());
    assert_eq!(scene.relay.drain(2_000, after(1)).await?.len(), 500);
    assert_eq!(scene.relay.drain(2_000, after(2)).await?.len(), 500);
    assert_eq!(scene.outbox.stats(after(2)).await?.unsent(), 0);
    Ok(())
}
