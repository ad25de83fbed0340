use super::harness::OutboxHarness;
use super::scene::{START, Scene, after, keyed, message};
use super::table::{IN_KEY_ORDER, OutboxCase};
use crate::error::BoxError;
use crate::status::OnFailure;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[OutboxCase] = &[
    case!("3.2", a_skipped_message_lets_its_key_go_on, IN_KEY_ORDER),
    case!("3.2", a_skipped_message_comes_at_its_due_time, IN_KEY_ORDER),
    case!(
        "3.2",
        skipping_a_message_frees_those_it_had_blocked,
        IN_KEY_ORDER
    ),
    case!("3.2", a_parked_key_waits_until_it_is_resumed, IN_KEY_ORDER),
    case!("3.2", a_resumed_key_comes_in_order, IN_KEY_ORDER),
    case!(
        "3.2",
        a_parked_key_blocks_until_its_retry_as_any_other,
        IN_KEY_ORDER
    ),
    case!("3.2", a_parked_key_takes_in_later_messages, IN_KEY_ORDER),
    case!("3.2", a_parked_key_holds_up_no_other, IN_KEY_ORDER),
    case!("3.2", a_parked_key_survives_reopening, IN_KEY_ORDER),
    case!("3.2", only_a_parked_key_can_be_resumed),
];

/// An outbox with "a", "b" and "c" of key `k`, of which "a" was quarantined and parked the key.
async fn parked(harness: &dyn OutboxHarness) -> Result<Scene, BoxError> {
    let scene = Scene::new(harness).await?;
    let batch = ["a", "b", "c"].map(|text| keyed("k", text));
    scene.append(&batch).await?;
    let taken = scene.relay.take_in_order(1, START).await?;
    scene
        .relay
        .quarantine(&taken[0], OnFailure::ParkKey, START)
        .await?;
    Ok(scene)
}

async fn a_skipped_message_lets_its_key_go_on(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let batch = ["a", "b", "c"].map(|text| keyed("k", text));
    scene.append(&batch).await?;
    let taken = scene.relay.take_in_order(1, START).await?;
    scene
        .relay
        .fail(&taken[0], after(10), OnFailure::SkipMessage, START)
        .await?;
    scene.append(&[keyed("k", "d")]).await?;
    assert_eq!(
        scene.relay.drain_in_order(10, after(1)).await?,
        ["b", "c", "d"]
    );
    Ok(())
}

async fn a_skipped_message_comes_at_its_due_time(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[keyed("k", "a"), keyed("k", "b")]).await?;
    let taken = scene.relay.take_in_order(1, START).await?;
    scene
        .relay
        .fail(&taken[0], after(10), OnFailure::SkipMessage, START)
        .await?;
    assert_eq!(
        scene.relay.claim(10, START).await?.next_due,
        Some(after(10))
    );
    let late = scene.relay.take(10, after(10)).await?;
    assert_eq!((late.len(), late[0].attempt), (1, 2));
    assert_eq!(late[0].message.sequence, taken[0].message.sequence);
    scene.relay.publish(&late, after(10)).await
}

async fn skipping_a_message_frees_those_it_had_blocked(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[keyed("k", "a"), keyed("k", "b")]).await?;
    let taken = scene.relay.take_in_order(1, START).await?;
    scene
        .relay
        .fail(&taken[0], after(10), OnFailure::BlockKey, START)
        .await?;
    assert!(scene.relay.take(10, START).await?.is_empty());
    let taken = scene.relay.take_in_order(1, after(10)).await?;
    scene
        .relay
        .fail(&taken[0], after(20), OnFailure::SkipMessage, after(10))
        .await?;
    assert_eq!(scene.relay.drain(10, after(11)).await?, ["b"]);
    assert_eq!(scene.relay.drain(10, after(20)).await?, ["a"]);
    Ok(())
}

async fn a_parked_key_waits_until_it_is_resumed(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = parked(harness).await?;
    for now in [START, after(1_000_000)] {
        let claim = scene.relay.claim(10, now).await?;
        assert_eq!((claim.leased.len(), claim.next_due), (0, None));
    }
    let stats = scene.outbox.stats(START).await?;
    assert_eq!((stats.unsent(), stats.quarantined), (2, 1));
    Ok(())
}

async fn a_resumed_key_comes_in_order(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = parked(harness).await?;
    assert!(scene.relay.take(10, START).await?.is_empty());
    assert!(scene.outbox.resume_key("k").await?);
    assert_eq!(scene.relay.drain_in_order(1, START).await?, ["b", "c"]);
    scene.append(&[keyed("k", "d")]).await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["d"]);
    Ok(())
}

async fn a_parked_key_blocks_until_its_retry_as_any_other(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[keyed("k", "a"), keyed("k", "b")]).await?;
    let taken = scene.relay.take_in_order(1, START).await?;
    scene
        .relay
        .fail(&taken[0], after(10), OnFailure::ParkKey, START)
        .await?;
    assert!(scene.relay.take(10, START).await?.is_empty());
    assert!(
        !scene.outbox.resume_key("k").await?,
        "it is blocked, not parked"
    );
    assert_eq!(scene.relay.drain_in_order(10, after(10)).await?, ["a", "b"]);
    Ok(())
}

async fn a_parked_key_takes_in_later_messages(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = parked(harness).await?;
    for text in ["d", "e"] {
        scene.append(&[keyed("k", text)]).await?;
        assert!(scene.relay.take(10, START).await?.is_empty());
    }
    scene.outbox.resume_key("k").await?;
    assert_eq!(
        scene.relay.drain_in_order(2, START).await?,
        ["b", "c", "d", "e"]
    );
    Ok(())
}

async fn a_parked_key_holds_up_no_other(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = parked(harness).await?;
    scene.append(&[keyed("other", "x"), message("y")]).await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["x", "y"]);
    Ok(())
}

async fn a_parked_key_survives_reopening(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = parked(harness).await?;
    scene.outbox.release(scene.relay.owner).await?;
    let scene = scene.reopen(2).await?;
    assert!(scene.relay.take(10, START).await?.is_empty());
    assert!(scene.outbox.resume_key("k").await?);
    assert_eq!(scene.relay.drain_in_order(10, START).await?, ["b", "c"]);
    Ok(())
}

async fn only_a_parked_key_can_be_resumed(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = parked(harness).await?;
    assert!(!scene.outbox.resume_key("other").await?);
    assert!(!scene.outbox.resume_key("").await?);
    assert!(scene.outbox.resume_key("k").await?);
    assert!(
        !scene.outbox.resume_key("k").await?,
        "it was resumed before"
    );
    Ok(())
}
