use super::harness::OutboxHarness;
use super::scene::{START, Scene, after, message, messages};
use super::table::{ORDERED_TRANSACTIONS, OUTSIDE_TRANSACTION, OutboxCase, TRANSACTIONS};
use crate::message::NewMessage;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[OutboxCase] = &[
    case!("2.1", a_committed_transaction_has_appended, TRANSACTIONS),
    case!(
        "2.1",
        a_rolled_back_transaction_has_appended_nothing,
        TRANSACTIONS
    ),
    case!(
        "2.1",
        a_dropped_transaction_has_appended_nothing,
        TRANSACTIONS
    ),
    case!("2.1", nobody_sees_messages_before_the_commit, TRANSACTIONS),
    case!(
        "2.1",
        all_appends_of_a_transaction_commit_together,
        TRANSACTIONS
    ),
    case!(
        "2.1",
        an_append_outside_a_transaction_is_refused,
        OUTSIDE_TRANSACTION
    ),
    case!(
        "2.1",
        a_transaction_after_a_rolled_back_one_works,
        TRANSACTIONS
    ),
    case!(
        "2.2",
        a_transaction_can_append_delayed_messages,
        TRANSACTIONS
    ),
    case!("2.5", a_transaction_takes_a_batch_of_5001, TRANSACTIONS),
    case!("3.1", transactions_keep_commit_order, ORDERED_TRANSACTIONS),
];

async fn a_committed_transaction_has_appended(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut open = scene.store.begin().await?;
    let report = open.append(&[message("a")]).await?;
    open.commit().await?;
    let taken = scene.relay.take(10, START).await?;
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].message.id, report.messages[0].id);
    assert_eq!(taken[0].message.created_at, START);
    Ok(())
}

async fn a_rolled_back_transaction_has_appended_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut open = scene.store.begin().await?;
    open.append(&[message("a")]).await?;
    open.rollback().await?;
    assert!(scene.relay.take(10, START).await?.is_empty());
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    Ok(())
}

async fn a_dropped_transaction_has_appended_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut open = scene.store.begin().await?;
    open.append(&messages(["a", "b"])).await?;
    drop(open);
    assert!(scene.relay.take(10, START).await?.is_empty());
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    scene.append(&[message("c")]).await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["c"]);
    Ok(())
}

async fn nobody_sees_messages_before_the_commit(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut open = scene.store.begin().await?;
    open.append(&[message("a")]).await?;
    let claim = scene.relay.claim(10, START).await?;
    assert!(claim.leased.is_empty());
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    open.commit().await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["a"]);
    Ok(())
}

async fn all_appends_of_a_transaction_commit_together(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut open = scene.store.begin().await?;
    for text in ["a", "b", "c"] {
        open.append(&[message(text)]).await?;
    }
    open.commit().await?;
    let published = scene.relay.drain(10, START).await?;
    assert_eq!(published, ["a", "b", "c"]);
    Ok(())
}

async fn an_append_outside_a_transaction_is_refused(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let answer = scene
        .store
        .append_outside_transaction(&[message("a")])
        .await;
    assert!(
        matches!(&answer, Err(error) if !error.is_transient()),
        "{answer:?}"
    );
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    Ok(())
}

async fn a_transaction_after_a_rolled_back_one_works(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    for round in 0..5 {
        let mut open = scene.store.begin().await?;
        open.append(&[message("undone")]).await?;
        if round % 2 == 0 {
            open.rollback().await?;
        } else {
            drop(open);
        }
    }
    let mut open = scene.store.begin().await?;
    open.append(&[message("done")]).await?;
    open.commit().await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["done"]);
    Ok(())
}

async fn a_transaction_can_append_delayed_messages(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut open = scene.store.begin().await?;
    open.append(&[message("later").due_at(after(10)), message("now")])
        .await?;
    open.commit().await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["now"]);
    assert_eq!(scene.relay.drain(10, after(10)).await?, ["later"]);
    Ok(())
}

async fn a_transaction_takes_a_batch_of_5001(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let batch: Vec<NewMessage> = (0..5_001).map(|n| message(&n.to_string())).collect();
    let mut open = scene.store.begin().await?;
    assert_eq!(open.append(&batch).await?.added(), 5_001);
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    open.commit().await?;
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 5_001);
    Ok(())
}

async fn transactions_keep_commit_order(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut expected = Vec::new();
    for round in 0..20 {
        let text = round.to_string();
        if round % 3 == 0 {
            scene.append(&[message(&text)]).await?;
        } else {
            let mut open = scene.store.begin().await?;
            open.append(&[message(&text)]).await?;
            open.commit().await?;
        }
        expected.push(text);
    }
    assert_eq!(scene.relay.drain_in_order(7, START).await?, expected);
    Ok(())
}
