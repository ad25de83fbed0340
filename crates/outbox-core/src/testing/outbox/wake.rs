use std::time::Duration;

use futures_util::FutureExt;

use super::harness::OutboxHarness;
use super::scene::{START, Scene, after, keyed, message, messages};
use super::table::{OutboxCase, QUIET, QUIET_TRANSACTIONS, TRANSACTIONS};
use crate::signal::WakeListener;
use crate::status::OnFailure;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[OutboxCase] = &[
    case!("5.1", an_append_wakes_the_relay),
    case!("5.1", a_commit_wakes_the_relay, TRANSACTIONS),
    case!("5.2", an_append_on_another_handle_wakes_the_relay),
    case!("5.1", a_message_appended_before_the_wait_is_not_missed),
    case!("5.1", a_release_wakes_those_who_stand_by),
    case!("5.1", resuming_a_key_wakes_the_relay),
    case!("5.4", idle_relays_come_to_rest),
    case!("12.21", nothing_wakes_before_the_commit, QUIET_TRANSACTIONS),
    case!("12.21", settling_published_messages_wakes_nobody, QUIET),
    case!("12.21", an_idle_claim_wakes_nobody, QUIET),
];

/// How long a signal may take; far more than any backend promises, so that a slow machine passes.
const SOON: Duration = Duration::from_secs(10);

/// How long a relay that is not woken counts as at rest, and how often it may be woken before.
const REST: (Duration, usize) = (Duration::from_millis(100), 20);

async fn woken(mut listener: WakeListener) -> CaseResult {
    let wait = tokio::time::timeout(SOON, listener.notified()).await;
    wait.map_err(|_| "nobody was woken".into())
}

fn is_woken(listener: &mut WakeListener) -> bool {
    listener.notified().now_or_never().is_some()
}

async fn an_append_wakes_the_relay(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let listener = scene.outbox.wake().listen();
    scene.append(&[message("a")]).await?;
    woken(listener).await?;
    let listener = scene.outbox.wake().listen();
    scene.append(&[message("later").due_at(after(60))]).await?;
    woken(listener).await
}

async fn a_commit_wakes_the_relay(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut open = scene.store.begin().await?;
    open.append(&[message("a")]).await?;
    let listener = scene.outbox.wake().listen();
    open.commit().await?;
    woken(listener).await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["a"]);
    Ok(())
}

async fn an_append_on_another_handle_wakes_the_relay(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let other = scene.store.open().await?;
    for _ in 0..3 {
        let listener = scene.outbox.wake().listen();
        other.append(&[message("a")]).await?;
        woken(listener).await?;
        assert_eq!(scene.relay.drain(10, START).await?, ["a"]);
    }
    Ok(())
}

async fn a_message_appended_before_the_wait_is_not_missed(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let listener = scene.outbox.wake().listen();
    assert!(scene.relay.take(10, START).await?.is_empty());
    scene.append(&[message("a")]).await?;
    assert_eq!(scene.relay.take(10, START).await?.len(), 1);
    woken(listener).await
}

async fn nothing_wakes_before_the_commit(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut listener = scene.outbox.wake().listen();
    let mut open = scene.store.begin().await?;
    open.append(&[message("a")]).await?;
    assert!(!is_woken(&mut listener), "woken before the commit");
    open.rollback().await?;
    assert!(!is_woken(&mut listener), "woken by a rollback");
    Ok(())
}

async fn settling_published_messages_wakes_nobody(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    let taken = scene.relay.take(10, START).await?;
    let mut listener = scene.outbox.wake().listen();
    scene.relay.publish(&taken, START).await?;
    assert!(!is_woken(&mut listener));
    Ok(())
}

async fn an_idle_claim_wakes_nobody(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("later").due_at(after(60))]).await?;
    let mut listener = scene.outbox.wake().listen();
    for second in 0..5 {
        assert!(scene.relay.take(10, after(second)).await?.is_empty());
    }
    scene.outbox.stats(START).await?;
    assert!(!is_woken(&mut listener));
    Ok(())
}

async fn a_release_wakes_those_who_stand_by(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let standby = scene.relay(2).await?;
    scene.append(&messages(["a", "b"])).await?;
    scene.relay.take(10, START).await?;
    let listener = standby.outbox.wake().listen();
    scene.outbox.release(scene.relay.owner).await?;
    woken(listener).await?;
    assert_eq!(standby.take(10, START).await?.len(), 2);
    Ok(())
}

async fn resuming_a_key_wakes_the_relay(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[keyed("k", "a"), keyed("k", "b")]).await?;
    let taken = scene.relay.take(1, START).await?;
    scene
        .relay
        .quarantine(&taken[0], OnFailure::ParkKey, START)
        .await?;
    let operator = scene.store.open().await?;
    let listener = scene.outbox.wake().listen();
    assert!(operator.resume_key("k").await?);
    woken(listener).await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["b"]);
    Ok(())
}

/// Two relays that look whenever they are woken, after all is done, stop waking each other.
async fn idle_relays_come_to_rest(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    let second = scene.relay(2).await?;
    let mut listener = scene.outbox.wake().listen();
    let mut other = second.outbox.wake().listen();
    scene
        .append(&[message("later").due_at(after(60)), message("now")])
        .await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["now"]);
    let (silence, most) = REST;
    for _ in 0..most {
        let woken = async {
            tokio::select! {
                () = listener.notified() => {}
                () = other.notified() => {}
            }
        };
        if tokio::time::timeout(silence, woken).await.is_err() {
            return Ok(());
        }
        assert!(scene.relay.take(10, START).await?.is_empty());
        assert!(second.take(10, START).await?.is_empty());
    }
    Err("idle relays wake each other for ever".into())
}
