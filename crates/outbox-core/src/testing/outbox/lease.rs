use super::harness::OutboxHarness;
use super::relay::{LEASE, texts};
use super::scene::{START, Scene, TICK, after, keyed, message, messages};
use super::table::{IN_KEY_ORDER, ONE_LEASE, OutboxCase};
use crate::lease::{Epoch, LeaseToken, Sequence};
use crate::ports::Outcome;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[OutboxCase] = &[
    case!("6", a_lease_that_has_ended_is_taken_over),
    case!("6", a_lease_is_not_taken_over_before_it_ends),
    case!("6", a_lease_outlives_the_handle_that_took_it),
    case!("4.2", each_change_of_holder_raises_the_epoch, ONE_LEASE),
    case!("4.2", a_holder_whose_lease_has_ended_claims_anew),
    case!("3.1", a_takeover_keeps_the_order_of_a_key, IN_KEY_ORDER),
    case!("6", an_extended_lease_is_taken_over_at_its_new_end),
    case!(
        "6",
        a_lease_that_has_ended_and_that_nobody_took_can_be_extended
    ),
    case!("4.2", a_lost_lease_is_told_and_not_extended),
    case!("4.2", a_token_that_was_never_given_is_lost),
    case!("6", extending_nothing_loses_nothing),
    case!("7.1", a_released_lease_can_be_taken_at_once),
    case!("7.1", a_release_costs_no_attempt_and_no_place, IN_KEY_ORDER),
    case!("4.2", a_relay_that_holds_nothing_releases_nothing),
    case!(
        "4.2",
        a_released_and_taken_message_is_lost_to_its_old_holder
    ),
];

async fn a_lease_that_has_ended_is_taken_over(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second = scene.relay(2).await?;
    scene.append(&messages(["a", "b"])).await?;
    let first = scene.relay.take(10, START).await?;
    let taken = second.take(10, START + LEASE).await?;
    assert_eq!(texts(&taken), ["a", "b"]);
    assert!(taken[0].token.epoch > first[0].token.epoch);
    assert_eq!(taken[0].message.id, first[0].message.id);
    assert_eq!(taken[0].attempt, 1, "dying costs the message no attempt");
    second.publish(&taken, START + LEASE).await
}

async fn a_lease_is_not_taken_over_before_it_ends(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second = scene.relay(2).await?;
    scene.append(&messages(["a", "b"])).await?;
    let first = scene.relay.take(10, START).await?;
    for now in [START, after(1), START + LEASE - TICK] {
        assert!(second.take(10, now).await?.is_empty());
    }
    scene.relay.publish(&first, START + LEASE - TICK).await
}

async fn a_lease_outlives_the_handle_that_took_it(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    assert_eq!(scene.relay.take(10, START).await?.len(), 2);
    let scene = scene.reopen(2).await?;
    assert!(scene.relay.take(10, after(1)).await?.is_empty());
    assert_eq!(scene.relay.drain(10, START + LEASE).await?, ["a", "b"]);
    Ok(())
}

async fn each_change_of_holder_raises_the_epoch(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("a")]).await?;
    let mut seen = Epoch(0);
    let mut now = START;
    for round in 0..6 {
        let relay = scene.relay(2 + round % 2).await?;
        let taken = relay.take(1, now).await?;
        assert!(
            taken[0].token.epoch > seen,
            "after {seen}: {:?}",
            taken[0].token
        );
        seen = taken[0].token.epoch;
        if round % 3 == 0 {
            relay.outbox.release(relay.owner).await?;
        } else {
            now = now + LEASE;
        }
    }
    Ok(())
}

async fn a_holder_whose_lease_has_ended_claims_anew(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("a")]).await?;
    let first = scene.relay.take(1, START).await?;
    let second = scene.relay.take(1, START + LEASE).await?;
    assert!(second[0].token.epoch > first[0].token.epoch);
    let report = scene
        .relay
        .settle(&first, &Outcome::Published, START + LEASE)
        .await?;
    assert_eq!((report.settled, report.lost), (0, vec![0]));
    scene.relay.publish(&second, START + LEASE).await
}

async fn a_takeover_keeps_the_order_of_a_key(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second = scene.relay(2).await?;
    let batch = ["a", "b", "c", "d"].map(|text| keyed("k", text));
    scene.append(&batch).await?;
    let taken = scene.relay.take_in_order(3, START).await?;
    scene.relay.publish(&taken[..1], START).await?;
    assert_eq!(
        second.drain_in_order(2, START + LEASE).await?,
        ["b", "c", "d"]
    );
    Ok(())
}

async fn an_extended_lease_is_taken_over_at_its_new_end(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second = scene.relay(2).await?;
    scene.append(&[message("a")]).await?;
    let taken = scene.relay.take(1, START).await?;
    let end = START + LEASE * 2;
    let lost = scene.outbox.extend(&[taken[0].token], end).await?;
    assert!(lost.is_empty());
    for now in [START + LEASE, end - TICK] {
        assert!(second.take(1, now).await?.is_empty());
    }
    assert_eq!(second.take(1, end).await?.len(), 1);
    Ok(())
}

async fn a_lease_that_has_ended_and_that_nobody_took_can_be_extended(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second = scene.relay(2).await?;
    scene.append(&[message("a")]).await?;
    let taken = scene.relay.take(1, START).await?;
    let late = START + LEASE + TICK;
    assert!(
        scene
            .outbox
            .extend(&[taken[0].token], late + LEASE)
            .await?
            .is_empty()
    );
    assert!(second.take(1, late).await?.is_empty());
    scene.relay.publish(&taken, late).await
}

async fn a_lost_lease_is_told_and_not_extended(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second = scene.relay(2).await?;
    let third = scene.relay(3).await?;
    scene.append(&[message("a")]).await?;
    let stale = scene.relay.take(1, START).await?[0].token;
    second.take(1, START + LEASE).await?;
    let lost = scene.outbox.extend(&[stale], after(3_600)).await?;
    assert_eq!(lost, [stale]);
    let taken = third.take(1, START + LEASE * 2).await?;
    assert_eq!(
        taken.len(),
        1,
        "the stale token extended its successor's lease"
    );
    Ok(())
}

async fn a_token_that_was_never_given_is_lost(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    let mut taken = scene.relay.take(1, START).await?;
    let held = taken[0].token;
    let future = LeaseToken {
        epoch: Epoch(held.epoch.0 + 1),
        ..held
    };
    let no_lease = LeaseToken {
        epoch: Epoch(0),
        ..held
    };
    let unclaimed = LeaseToken {
        sequence: Sequence(held.sequence.0 + 1),
        ..held
    };
    let unknown = LeaseToken {
        sequence: Sequence(held.sequence.0 + 1_000),
        ..held
    };
    for token in [future, no_lease, unclaimed, unknown] {
        taken[0].token = token;
        let report = scene
            .relay
            .settle(&taken, &Outcome::Published, START)
            .await?;
        assert_eq!((report.settled, report.lost), (0, vec![0]), "{token:?}");
    }
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 2);
    Ok(())
}

async fn extending_nothing_loses_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    assert!(scene.outbox.extend(&[], after(3_600)).await?.is_empty());
    scene.append(&[message("a")]).await?;
    assert_eq!(scene.relay(2).await?.take(1, START).await?.len(), 1);
    Ok(())
}

async fn a_released_lease_can_be_taken_at_once(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second = scene.relay(2).await?;
    scene.append(&messages(["a", "b", "c"])).await?;
    let taken = scene.relay.take(2, START).await?;
    scene.relay.publish(&taken[..1], START).await?;
    scene.outbox.release(scene.relay.owner).await?;
    assert_eq!(second.drain(10, START).await?, ["b", "c"]);
    Ok(())
}

async fn a_release_costs_no_attempt_and_no_place(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let batch = ["a", "b", "c"].map(|text| keyed("k", text));
    scene.append(&batch).await?;
    for _ in 0..5 {
        let taken = scene.relay.take_in_order(2, START).await?;
        assert_eq!(texts(&taken), ["a", "b"]);
        assert!(taken.iter().all(|leased| leased.attempt == 1));
        scene.outbox.release(scene.relay.owner).await?;
        scene.outbox.release(scene.relay.owner).await?;
    }
    assert_eq!(scene.relay.drain_in_order(2, START).await?, ["a", "b", "c"]);
    Ok(())
}

async fn a_relay_that_holds_nothing_releases_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second = scene.relay(2).await?;
    second.outbox.release(second.owner).await?;
    scene.append(&messages(["a", "b"])).await?;
    let taken = scene.relay.take(10, START).await?;
    second.outbox.release(second.owner).await?;
    assert!(second.take(10, after(1)).await?.is_empty());
    scene.relay.publish(&taken, after(1)).await
}

async fn a_released_and_taken_message_is_lost_to_its_old_holder(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second = scene.relay(2).await?;
    scene.append(&[message("a")]).await?;
    let old = scene.relay.take(1, START).await?;
    scene.outbox.release(scene.relay.owner).await?;
    let new = second.take(1, START).await?;
    let report = scene.relay.settle(&old, &Outcome::Published, START).await?;
    assert_eq!((report.settled, report.lost), (0, vec![0]));
    assert_eq!(
        scene.outbox.extend(&[old[0].token], after(99)).await?,
        [old[0].token]
    );
    scene.outbox.release(scene.relay.owner).await?;
    second.publish(&new, START).await
}
