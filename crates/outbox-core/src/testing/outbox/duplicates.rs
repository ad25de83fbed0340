use std::time::Duration;

use super::harness::OutboxHarness;
use super::scene::{START, Scene, after, message, messages};
use super::table::{OutboxCase, TRANSACTIONS};
use crate::error::Result;
use crate::id::{Entropy, MessageId};
use crate::message::NewMessage;
use crate::ports::Outbox;
use crate::status::OnFailure;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[OutboxCase] = &[
    case!("2.3", a_key_repeated_in_a_batch_adds_nothing),
    case!("2.3", a_key_repeated_in_a_later_batch_adds_nothing),
    case!("2.3", a_key_repeated_on_another_handle_adds_nothing),
    case!("2.3", a_duplicate_leaves_the_first_message_as_it_was),
    case!("2.3", a_key_outlives_its_published_message),
    case!("2.3", a_key_outlives_its_quarantined_message),
    case!("2.3", a_key_is_forgotten_when_it_is_purged_by_age),
    case!("12.9", a_duplicate_fails_no_other_message_of_its_batch),
    case!("2.3", an_id_repeated_in_a_batch_adds_nothing),
    case!("2.3", appending_the_same_ids_again_adds_nothing),
    case!("2.3", equal_messages_without_a_key_are_no_duplicates),
    case!(
        "12.16",
        a_key_of_a_rolled_back_append_is_free_again,
        TRANSACTIONS
    ),
    case!(
        "2.3",
        a_transaction_sees_its_own_keys_and_committed_ones,
        TRANSACTIONS
    ),
];

fn with_key(key: &str, text: &str) -> NewMessage {
    message(text).idempotency_key(key)
}

/// What an append answered, message by message.
async fn answers(outbox: &dyn Outbox, messages: &[NewMessage]) -> Result<Vec<(MessageId, bool)>> {
    let report = outbox.append(messages).await?;
    Ok(report
        .messages
        .iter()
        .map(|m| (m.id, m.duplicate))
        .collect())
}

async fn a_key_repeated_in_a_batch_adds_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let batch = [
        with_key("k", "first"),
        with_key("other", "b"),
        with_key("k", "again"),
    ];
    let answers = answers(&*scene.outbox, &batch).await?;
    assert_eq!(answers[2], (answers[0].0, true));
    assert!(!answers[0].1 && !answers[1].1 && answers[0].0 != answers[1].0);
    assert_eq!(scene.relay.drain(10, START).await?, ["b", "first"]);
    Ok(())
}

async fn a_key_repeated_in_a_later_batch_adds_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let first = scene.append(&[with_key("k", "first")]).await?;
    let again = answers(&*scene.outbox, &[with_key("k", "again")]).await?;
    assert_eq!(again, [(first[0], true)]);
    assert_eq!(scene.relay.drain(10, START).await?, ["first"]);
    Ok(())
}

async fn a_key_repeated_on_another_handle_adds_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let first = scene.append(&[with_key("k", "first")]).await?;
    let other = scene.store.open().await?;
    assert_eq!(
        answers(&*other, &[with_key("k", "again")]).await?,
        [(first[0], true)]
    );
    assert_eq!(scene.relay.drain(10, START).await?, ["first"]);
    Ok(())
}

async fn a_duplicate_leaves_the_first_message_as_it_was(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene
        .append(&[with_key("k", "first").header("h", "1")])
        .await?;
    let again = NewMessage::new("elsewhere", "again")
        .idempotency_key("k")
        .due_at(after(9));
    scene.append(&[again.header("h", "2")]).await?;
    let taken = scene.relay.take(10, START).await?;
    assert_eq!(taken.len(), 1);
    let told = &taken[0].message;
    assert_eq!(
        (told.topic.as_str(), told.headers.get("h")),
        ("t", Some("1"))
    );
    Ok(())
}

async fn a_key_outlives_its_published_message(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let first = scene.append(&[with_key("k", "first")]).await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["first"]);
    let scene = scene.reopen(2).await?;
    let again = answers(&*scene.outbox, &[with_key("k", "again")]).await?;
    assert_eq!(again, [(first[0], true)]);
    assert!(scene.relay.drain(10, START).await?.is_empty());
    Ok(())
}

async fn a_key_outlives_its_quarantined_message(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let first = scene.append(&[with_key("k", "first")]).await?;
    let taken = scene.relay.take(1, START).await?;
    scene
        .relay
        .quarantine(&taken[0], OnFailure::BlockKey, START)
        .await?;
    let again = answers(&*scene.outbox, &[with_key("k", "again")]).await?;
    assert_eq!(again, [(first[0], true)]);
    Ok(())
}

async fn a_key_is_forgotten_when_it_is_purged_by_age(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let first = scene.append(&[with_key("k", "first")]).await?;
    scene.relay.drain(10, START).await?;
    scene.outbox.purge(START, 100).await?;
    let young = answers(&*scene.outbox, &[with_key("k", "again")]).await?;
    assert_eq!(young, [(first[0], true)], "it is not older than that");
    scene.outbox.purge(after(1), 100).await?;
    let old = answers(&*scene.outbox, &[with_key("k", "news")]).await?;
    assert!(!old[0].1 && old[0].0 != first[0]);
    assert_eq!(scene.relay.drain(10, START).await?, ["news"]);
    Ok(())
}

async fn a_duplicate_fails_no_other_message_of_its_batch(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let known = message("known").identify(START, &Entropy::seeded(7));
    scene
        .append(&[with_key("k", "first"), known.clone()])
        .await?;
    let batch = [
        message("a"),
        with_key("k", "again"),
        message("b"),
        known,
        message("c"),
    ];
    let answers = answers(&*scene.outbox, &batch).await?;
    let duplicates: Vec<bool> = answers.iter().map(|(_, duplicate)| *duplicate).collect();
    assert_eq!(duplicates, [false, true, false, true, false]);
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 5);
    let published = scene.relay.drain(10, START).await?;
    assert_eq!(published, ["a", "b", "c", "first", "known"]);
    Ok(())
}

async fn an_id_repeated_in_a_batch_adds_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let identified = message("once").identify(START, &Entropy::seeded(7));
    let answers = answers(&*scene.outbox, &[identified.clone(), identified]).await?;
    assert_eq!((answers[0].1, answers[1]), (false, (answers[0].0, true)));
    assert_eq!(scene.relay.drain(10, START).await?, ["once"]);
    Ok(())
}

async fn appending_the_same_ids_again_adds_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let entropy = Entropy::seeded(7);
    let batch = messages(["a", "b"]).map(|message| message.identify(START, &entropy));
    let first = scene.append(&batch).await?;
    scene.clock.advance(Duration::from_secs(1));
    let scene = scene.reopen(2).await?;
    let again = answers(&*scene.outbox, &batch).await?;
    assert_eq!(again, [(first[0], true), (first[1], true)]);
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 2);
    Ok(())
}

async fn equal_messages_without_a_key_are_no_duplicates(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let report = scene
        .outbox
        .append(&[message("same"), message("same")])
        .await?;
    assert_eq!((report.added(), report.duplicates()), (2, 0));
    assert_eq!(scene.relay.drain(10, START).await?, ["same", "same"]);
    Ok(())
}

async fn a_key_of_a_rolled_back_append_is_free_again(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut open = scene.store.begin().await?;
    open.append(&[with_key("k", "undone")]).await?;
    open.rollback().await?;
    let report = scene.outbox.append(&[with_key("k", "done")]).await?;
    assert_eq!(report.added(), 1);
    assert_eq!(scene.relay.drain(10, START).await?, ["done"]);
    Ok(())
}

async fn a_transaction_sees_its_own_keys_and_committed_ones(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let known = scene.append(&[with_key("known", "a")]).await?;
    let mut open = scene.store.begin().await?;
    let first = open.append(&[with_key("new", "b")]).await?;
    let again = open
        .append(&[with_key("new", "c"), with_key("known", "d"), message("e")])
        .await?;
    open.commit().await?;
    let ids: Vec<_> = again.messages.iter().map(|m| (m.id, m.duplicate)).collect();
    assert_eq!(ids[..2], [(first.messages[0].id, true), (known[0], true)]);
    assert_eq!(scene.relay.drain(10, START).await?.len(), 3);
    Ok(())
}
