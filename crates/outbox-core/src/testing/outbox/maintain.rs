use std::time::Duration;

use super::harness::OutboxHarness;
use super::scene::{START, Scene, TICK, after, keyed, message, messages};
use super::table::OutboxCase;
use crate::id::Entropy;
use crate::message::NewMessage;
use crate::report::OutboxStats;
use crate::status::OnFailure;
use crate::testing::kit::{CaseResult, case};
use crate::time::Timestamp;

pub(super) const CASES: &[OutboxCase] = &[
    case!("4.9", a_published_message_is_deleted_where_none_are_kept),
    case!("4.9", a_published_message_is_kept_until_it_is_purged),
    case!("4.9", purging_spares_what_was_settled_since),
    case!("4.9", purging_takes_no_more_than_it_is_told),
    case!("4.9", purging_an_empty_outbox_finds_nothing),
    case!("4.11", nothing_unsent_is_purged_at_any_age),
    case!("4.11", nothing_in_quarantine_is_purged),
    case!("2.3", a_kept_message_still_answers_for_its_id),
    case!("4", an_empty_outbox_counts_nothing),
    case!("4", every_message_is_counted_where_it_stands),
    case!("4", the_oldest_unsent_message_tells_the_age),
];

async fn a_published_message_is_deleted_where_none_are_kept(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    scene.relay.drain(10, START).await?;
    assert_eq!(scene.outbox.stats(START).await?, OutboxStats::default());
    assert_eq!(scene.outbox.purge(Timestamp::MAX, 10).await?, 0);
    Ok(())
}

async fn a_published_message_is_kept_until_it_is_purged(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&messages(["a", "b", "c"])).await?;
    scene.relay.drain(2, START).await?;
    let kept = OutboxStats {
        published: 3,
        ..OutboxStats::default()
    };
    assert_eq!(scene.outbox.stats(START).await?, kept);
    assert_eq!(scene.outbox.purge(after(1), 10).await?, 3);
    assert_eq!(scene.outbox.stats(START).await?, OutboxStats::default());
    Ok(())
}

async fn purging_spares_what_was_settled_since(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    for second in [1, 2, 3] {
        scene.append(&[message("x")]).await?;
        scene.relay.drain(1, after(second)).await?;
    }
    assert_eq!(scene.outbox.purge(after(1), 10).await?, 0);
    assert_eq!(scene.outbox.purge(after(2), 10).await?, 1);
    assert_eq!(scene.outbox.purge(after(3) + TICK, 10).await?, 2);
    Ok(())
}

async fn purging_takes_no_more_than_it_is_told(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&vec![message("x"); 25]).await?;
    scene.relay.drain(25, START).await?;
    for expected in [10, 10, 5, 0] {
        assert_eq!(scene.outbox.purge(after(1), 10).await?, expected);
    }
    Ok(())
}

async fn purging_an_empty_outbox_finds_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    assert_eq!(scene.outbox.purge(Timestamp::MAX, 10).await?, 0);
    Ok(())
}

/// Appends a message for each way of being unsent, and claims one of them.
async fn one_of_each_standing(scene: &Scene) -> CaseResult {
    let failing = [message("fails"), keyed("k", "fails"), message("in flight")];
    scene.append(&failing).await?;
    let taken = scene.relay.take(3, START).await?;
    for leased in &taken[..2] {
        scene
            .relay
            .fail(leased, after(50), OnFailure::BlockKey, START)
            .await?;
    }
    let delayed = message("delayed").due_at(after(60));
    let paused = NewMessage::new("down", "paused");
    scene
        .append(&[keyed("k", "parked"), delayed, paused])
        .await?;
    Ok(())
}

async fn nothing_unsent_is_purged_at_any_age(harness: &dyn OutboxHarness) -> CaseResult {
    let mut scene = Scene::keeping_published(harness).await?;
    one_of_each_standing(&scene).await?;
    scene.relay.paused = vec!["down".to_owned()];
    assert!(scene.relay.take(10, START).await?.is_empty());
    scene.append(&[message("ready")]).await?;
    assert_eq!(scene.outbox.purge(Timestamp::MAX, 1_000).await?, 0);
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 7);
    scene.relay.paused.clear();
    scene.outbox.release(scene.relay.owner).await?;
    assert_eq!(scene.relay.drain(10, after(60)).await?.len(), 7);
    Ok(())
}

async fn nothing_in_quarantine_is_purged(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&[message("a")]).await?;
    let taken = scene.relay.take(1, START).await?;
    scene
        .relay
        .quarantine(&taken[0], OnFailure::BlockKey, START)
        .await?;
    assert_eq!(scene.outbox.purge(Timestamp::MAX, 10).await?, 0);
    assert_eq!(scene.outbox.stats(START).await?.quarantined, 1);
    assert_eq!(scene.store.quarantined().await?.len(), 1);
    Ok(())
}

async fn a_kept_message_still_answers_for_its_id(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    let known = message("a").identify(START, &Entropy::seeded(7));
    scene.append(std::slice::from_ref(&known)).await?;
    scene.relay.drain(1, START).await?;
    let again = scene.outbox.append(&[known]).await?;
    assert_eq!(again.duplicates(), 1);
    assert!(scene.relay.drain(1, START).await?.is_empty());
    Ok(())
}

async fn an_empty_outbox_counts_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    assert_eq!(scene.outbox.stats(START).await?, OutboxStats::default());
    Ok(())
}

async fn every_message_is_counted_where_it_stands(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&messages(["refused", "published"])).await?;
    let taken = scene.relay.take(2, START).await?;
    scene
        .relay
        .quarantine(&taken[0], OnFailure::BlockKey, START)
        .await?;
    scene.relay.publish(&taken[1..], START).await?;
    one_of_each_standing(&scene).await?;
    let expected = OutboxStats {
        ready: 2,
        waiting: 3,
        parked: 1,
        published: 1,
        quarantined: 1,
        oldest: Some(START),
    };
    // A backend may find out what is parked when a relay comes to it.
    assert_eq!(scene.relay.take(10, START).await?.len(), 1);
    let found = scene.outbox.stats(START).await?;
    assert_eq!((found, found.unsent()), (expected, 6));
    Ok(())
}

async fn the_oldest_unsent_message_tells_the_age(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    for _ in 0..3 {
        scene.append(&[message("x")]).await?;
        scene.clock.advance(Duration::from_secs(1));
    }
    for second in [0, 1, 2] {
        assert_eq!(
            scene.outbox.stats(after(9)).await?.oldest,
            Some(after(second))
        );
        let taken = scene.relay.take(1, after(9)).await?;
        scene.relay.publish(&taken, after(9)).await?;
    }
    assert_eq!(scene.outbox.stats(after(9)).await?.oldest, None);
    Ok(())
}
