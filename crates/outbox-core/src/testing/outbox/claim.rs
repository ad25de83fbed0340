use super::harness::OutboxHarness;
use super::relay::{LEASE, texts};
use super::scene::{START, Scene, after, keyed, message, messages};
use super::table::{IN_COMMIT_ORDER, IN_KEY_ORDER, ONE_LEASE, OutboxCase};
use crate::message::Limits;
use crate::report::ClaimReport;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[OutboxCase] = &[
    case!("4.1", an_empty_outbox_has_nothing_to_claim),
    case!("4.1", a_claim_takes_no_more_than_it_asks_for),
    case!("3.1", messages_come_in_commit_order, IN_COMMIT_ORDER),
    case!("3.1", messages_of_a_key_come_in_commit_order, IN_KEY_ORDER),
    case!(
        "4.1",
        what_is_claimed_is_not_claimed_again_while_its_lease_lives
    ),
    case!("4.1", two_relays_never_hold_the_same_message),
    case!(
        "4.1",
        a_relay_that_stands_by_is_told_when_the_lease_ends,
        ONE_LEASE
    ),
    case!("4.1", a_claim_of_nothing_takes_no_lease, ONE_LEASE),
    case!("4.3", a_message_carries_its_sequence_and_epoch),
    case!("4.1", published_messages_are_never_claimed_again),
    case!("4.1", what_comes_while_a_batch_is_in_flight_can_be_claimed),
    case!("11", a_message_without_a_due_time_needs_no_clock),
];

async fn an_empty_outbox_has_nothing_to_claim(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    assert_eq!(scene.relay.claim(10, START).await?, ClaimReport::default());
    Ok(())
}

async fn a_claim_takes_no_more_than_it_asks_for(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&messages(["a", "b", "c", "d", "e"])).await?;
    let first = scene.relay.claim(2, START).await?;
    assert_eq!((first.leased.len(), first.more), (2, true));
    assert_eq!(scene.relay.take(2, START).await?.len(), 2);
    assert_eq!(scene.relay.take(2, START).await?.len(), 1);
    let last = scene.relay.claim(2, START).await?;
    assert_eq!((last.leased.len(), last.more), (0, false));
    Ok(())
}

async fn messages_come_in_commit_order(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second_handle = scene.store.open().await?;
    let mut expected = Vec::new();
    for round in 0..30 {
        let batch = [round, round + 100].map(|n: u32| n.to_string());
        let appended = [message(&batch[0]), keyed("k", &batch[1])];
        if round % 2 == 0 {
            scene.append(&appended).await?;
        } else {
            second_handle.append(&appended).await?;
        }
        expected.extend(batch);
    }
    assert_eq!(scene.relay.drain_in_order(7, START).await?, expected);
    Ok(())
}

async fn messages_of_a_key_come_in_commit_order(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    for round in 0..30 {
        let batch = ["x", "y", "z"].map(|key| keyed(key, &format!("{key}{round}")));
        scene.append(&batch).await?;
    }
    let published = scene.relay.drain_in_order(7, START).await?;
    for key in ["x", "y", "z"] {
        let of_key: Vec<_> = published
            .iter()
            .filter(|text| text.starts_with(key))
            .collect();
        let expected: Vec<_> = (0..30).map(|round| format!("{key}{round}")).collect();
        assert_eq!(of_key, expected.iter().collect::<Vec<_>>());
    }
    Ok(())
}

async fn what_is_claimed_is_not_claimed_again_while_its_lease_lives(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    assert_eq!(scene.relay.take(10, START).await?.len(), 2);
    for second in [0, 1, LEASE.as_secs() - 1] {
        let again = scene.relay.claim(10, after(second)).await?;
        assert_eq!((again.leased, again.more), (Vec::new(), false));
    }
    Ok(())
}

async fn two_relays_never_hold_the_same_message(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second = scene.relay(2).await?;
    scene.append(&vec![message("x"); 20]).await?;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.extend(scene.relay.claim(3, START).await?.leased);
        held.extend(second.claim(3, START).await?.leased);
    }
    let claimed = held.len();
    held.sort_by_key(|leased| leased.token.sequence);
    held.dedup_by_key(|leased| leased.token.sequence);
    assert_eq!(held.len(), claimed, "a message was held twice");
    assert!(
        claimed >= 12,
        "the first relay alone claimed four times three"
    );
    Ok(())
}

async fn a_relay_that_stands_by_is_told_when_the_lease_ends(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let standby = scene.relay(2).await?;
    scene.append(&messages(["a", "b"])).await?;
    scene.relay.take(1, START).await?;
    let claim = standby.claim(10, after(5)).await?;
    assert!(claim.leased.is_empty() && !claim.more);
    assert_eq!(claim.next_due, Some(START + LEASE));
    Ok(())
}

async fn a_claim_of_nothing_takes_no_lease(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let second = scene.relay(2).await?;
    scene.append(&[message("later").due_at(after(5))]).await?;
    assert!(scene.relay.claim(10, START).await?.leased.is_empty());
    scene.append(&[message("now")]).await?;
    let claim = second.claim(10, after(1)).await?;
    assert_eq!(texts(&claim.leased), ["now"]);
    Ok(())
}

async fn a_message_carries_its_sequence_and_epoch(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    for leased in scene.relay.take(10, START).await? {
        assert_eq!(leased.message.sequence, leased.token.sequence);
        assert_eq!(leased.message.epoch, leased.token.epoch);
        assert!(leased.token.sequence.0 > 0 && leased.token.epoch.0 > 0);
    }
    Ok(())
}

async fn published_messages_are_never_claimed_again(harness: &dyn OutboxHarness) -> CaseResult {
    for keep_published in [false, true] {
        let scene = Scene::with(harness, Limits::default(), keep_published).await?;
        scene.append(&messages(["a", "b"])).await?;
        assert_eq!(scene.relay.drain(1, START).await?.len(), 2);
        let scene = scene.reopen(2).await?;
        for now in [START, START + LEASE, after(1_000_000)] {
            assert!(scene.relay.take(10, now).await?.is_empty());
        }
    }
    Ok(())
}

async fn what_comes_while_a_batch_is_in_flight_can_be_claimed(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    let first = scene.relay.take(10, START).await?;
    scene.append(&messages(["c"])).await?;
    let second = scene.relay.take(10, START).await?;
    assert_eq!(texts(&second), ["c"]);
    scene.relay.publish(&second, START).await?;
    scene.relay.publish(&first, START).await?;
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    Ok(())
}

async fn a_message_without_a_due_time_needs_no_clock(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.clock.set(after(3_600));
    let early = message("due long ago").due_at(START);
    scene.append(&[message("due at once"), early]).await?;
    let published = scene.relay.drain(10, START).await?;
    assert_eq!(published, ["due at once", "due long ago"]);
    Ok(())
}
