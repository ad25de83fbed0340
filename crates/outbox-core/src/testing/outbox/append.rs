use super::harness::OutboxHarness;
use super::scene::{START, Scene};
use super::table::OutboxCase;
use crate::message::NewMessage;
use crate::testing::kit::{CaseResult, case};
use crate::time::Clock;

pub(super) const CASES: &[OutboxCase] = &[
    case!("2.1", what_is_appended_can_be_claimed),
    case!("2.2", an_id_that_is_brought_along_is_kept),
];

async fn what_is_appended_can_be_claimed(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let ids = scene.append(&[NewMessage::new("t", "hello")]).await?;
    let claim = scene.claim(10, START).await?;
    let [leased] = &claim.leased[..] else {
        return Err(format!("one message was appended: {claim:?}").into());
    };
    assert_eq!(leased.message.id, ids[0]);
    assert_eq!(leased.message.payload, "hello");
    assert_eq!(leased.message.created_at, scene.clock.now());
    Ok(())
}

async fn an_id_that_is_brought_along_is_kept(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let entropy = crate::id::Entropy::seeded(7);
    let message = NewMessage::new("t", "hello").identify(START, &entropy);
    let second_handle = scene.store.open().await?;
    let ids = second_handle.append(std::slice::from_ref(&message)).await?;
    assert_eq!(Some(ids.messages[0].id), message.id);
    Ok(())
}
