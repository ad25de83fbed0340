use super::harness::OutboxHarness;
use super::scene::{START, Scene, after, keyed, message, messages};
use super::table::{ORDERED_REPLAY, OutboxCase, REPLAY};
use crate::delivery::Leased;
use crate::error::BoxError;
use crate::lease::Sequence;
use crate::message::NewMessage;
use crate::ports::{Outcome, ReplayFrom, ReplayRequest};
use crate::status::OnFailure;
use crate::testing::kit::{CaseResult, case};
use crate::time::Timestamp;

pub(super) const CASES: &[OutboxCase] = &[
    case!(
        "4.12",
        a_replayed_message_is_claimed_again_unchanged,
        REPLAY
    ),
    case!("4.12", a_replayed_messages_attempts_begin_anew, REPLAY),
    case!(
        "4.12",
        a_replay_from_a_place_spares_what_is_before_it,
        REPLAY
    ),
    case!(
        "4.12",
        a_replay_from_a_moment_spares_what_was_published_before,
        REPLAY
    ),
    case!("4.12", a_replay_of_topics_spares_other_topics, REPLAY),
    case!("4.12", a_long_replay_is_complete, REPLAY),
    case!(
        "4.2",
        who_holds_the_lease_loses_it_to_a_replay,
        ORDERED_REPLAY
    ),
    case!(
        "3.1",
        a_replayed_message_is_not_overtaken_in_its_key,
        ORDERED_REPLAY
    ),
    case!("4.2", a_replay_of_nothing_fences_nobody, REPLAY),
    case!(
        "4.2",
        replays_beside_each_other_keep_the_lease_from_nobody,
        REPLAY
    ),
    case!("4.12", what_is_unsent_or_resting_is_not_replayed, REPLAY),
    case!("4.9", what_was_purged_is_not_replayed, REPLAY),
    case!("5.1", a_replay_wakes_the_relay, REPLAY),
];

fn everything() -> ReplayRequest {
    ReplayRequest::of_all(ReplayFrom::Sequence(Sequence(0)))
}

async fn replay(scene: &Scene, request: &ReplayRequest) -> Result<u64, BoxError> {
    let replay = scene.store.open_replay().await?;
    Ok(replay.replay(request).await?.replayed)
}

/// What can be claimed, in the order in which it is.
async fn texts(scene: &Scene, now: Timestamp) -> Result<Vec<String>, BoxError> {
    let taken = scene.relay.take_in_order(10_000, now).await?;
    Ok(taken.iter().map(text).collect())
}

fn text(leased: &Leased) -> String {
    String::from_utf8_lossy(&leased.message.payload).into_owned()
}

async fn a_replayed_message_is_claimed_again_unchanged(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    let original = keyed("k", "a").header("h", "v").aggregate("order", "7");
    scene.append(&[original]).await?;
    let before = scene.relay.take(1, START).await?;
    scene.relay.publish(&before, START).await?;
    assert_eq!(replay(&scene, &everything()).await?, 1);
    let stats = scene.outbox.stats(START).await?;
    assert_eq!((stats.ready, stats.published), (1, 0));
    let mut again = scene.relay.take(1, START).await?;
    assert!(again[0].message.epoch > before[0].message.epoch);
    again[0].message.epoch = before[0].message.epoch;
    assert_eq!(again[0].message, before[0].message);
    Ok(())
}

async fn a_replayed_messages_attempts_begin_anew(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&[message("a")]).await?;
    let failing = scene.relay.take(1, START).await?;
    scene
        .relay
        .fail(&failing[0], after(1), OnFailure::BlockKey, START)
        .await?;
    let second = scene.relay.take(1, after(1)).await?;
    assert_eq!(second[0].attempt, 2);
    scene.relay.publish(&second, after(1)).await?;
    assert_eq!(replay(&scene, &everything()).await?, 1);
    let again = scene.relay.take(1, after(1)).await?;
    assert_eq!((again[0].attempt, again[0].history.len()), (1, 0));
    Ok(())
}

async fn a_replay_from_a_place_spares_what_is_before_it(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&messages(["a", "b", "c"])).await?;
    let taken = scene.relay.take(3, START).await?;
    scene.relay.publish(&taken, START).await?;
    let from = ReplayFrom::Sequence(taken[1].message.sequence);
    let request = ReplayRequest::of_all(from);
    assert_eq!(replay(&scene, &request).await?, 2);
    assert_eq!(texts(&scene, START).await?, ["b", "c"]);
    assert_eq!(replay(&scene, &request).await?, 0);
    Ok(())
}

async fn a_replay_from_a_moment_spares_what_was_published_before(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&messages(["a", "b", "c"])).await?;
    // What was published last has the first place.
    let taken = scene.relay.take(3, START).await?;
    for (place, second) in [(2, 1), (1, 2), (0, 3)] {
        let one = std::slice::from_ref(&taken[place]);
        scene.relay.publish(one, after(second)).await?;
    }
    let request = ReplayRequest::of_all(ReplayFrom::PublishedAt(after(2)));
    assert_eq!(replay(&scene, &request).await?, 2);
    assert_eq!(texts(&scene, after(3)).await?, ["a", "b"]);
    Ok(())
}

async fn a_replay_of_topics_spares_other_topics(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    let to = |topic: &str| NewMessage::new(topic, topic.to_owned());
    scene.append(&[to("x"), to("y"), to("z"), to("y")]).await?;
    scene.relay.drain(10, START).await?;
    let request = ReplayRequest {
        topics: vec!["y".to_owned(), "z".to_owned()],
        ..everything()
    };
    assert_eq!(replay(&scene, &request).await?, 3);
    assert_eq!(texts(&scene, START).await?, ["y", "z", "y"]);
    assert_eq!(scene.outbox.stats(START).await?.published, 1);
    Ok(())
}

async fn a_long_replay_is_complete(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    let all: Vec<_> = (0..1_777).map(|n| message(&n.to_string())).collect();
    scene.append(&all).await?;
    scene.relay.drain(500, START).await?;
    assert_eq!(replay(&scene, &everything()).await?, 1_777);
    let mut again = scene.relay.take(10_000, START).await?;
    again.sort_by_key(|leased| leased.message.sequence);
    let expected: Vec<_> = (0..1_777).map(|n| n.to_string()).collect();
    assert_eq!(again.iter().map(text).collect::<Vec<_>>(), expected);
    Ok(())
}

async fn who_holds_the_lease_loses_it_to_a_replay(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    let taken = scene.relay.take(2, START).await?;
    scene.relay.publish(&taken[..1], START).await?;
    let replaying = scene.store.open_replay().await?;
    let report = replaying.replay(&everything()).await?;
    assert_eq!(report.replayed, 1);
    let epoch = |leased: &Leased| leased.message.epoch;
    assert!(epoch(&taken[0]) < report.epoch, "{report:?}");
    let late = scene.relay.settle(&taken[1..], &Outcome::Published, START);
    assert_eq!(late.await?.lost, [0]);
    // Nobody has to wait for a lease to end.
    let other = scene.relay(2).await?;
    let again = other.take(10, START).await?;
    assert_eq!(again.len(), 2);
    assert!(again.iter().map(epoch).all(|epoch| epoch >= report.epoch));
    Ok(())
}

async fn a_replayed_message_is_not_overtaken_in_its_key(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&[keyed("k", "first")]).await?;
    scene.relay.drain(1, START).await?;
    scene
        .append(&[keyed("k", "second"), keyed("k", "third")])
        .await?;
    let taken = scene.relay.take(1, START).await?;
    assert_eq!(text(&taken[0]), "second");
    assert_eq!(replay(&scene, &everything()).await?, 1);
    assert_eq!(texts(&scene, START).await?, ["first", "second", "third"]);
    Ok(())
}

async fn a_replay_of_nothing_fences_nobody(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    let taken = scene.relay.take(2, START).await?;
    let replaying = scene.store.open_replay().await?;
    let report = replaying.replay(&everything()).await?;
    assert_eq!(report.replayed, 0);
    // Whoever asks later learns of an earlier replay by the epoch that it began.
    assert_eq!(report.epoch, taken[0].message.epoch);
    scene.relay.publish(&taken, START).await
}

async fn replays_beside_each_other_keep_the_lease_from_nobody(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    scene.relay.drain(2, START).await?;
    for number in 2..8 {
        let (one, other) = (
            scene.store.open_replay().await?,
            scene.store.open_replay().await?,
        );
        let request = everything();
        let (one, other) = tokio::join!(one.replay(&request), other.replay(&request));
        assert_eq!(one?.replayed + other?.replayed, 2);
        // Nobody has to wait for a lease to end.
        let relay = scene.relay(number).await?;
        let taken = relay.take(10, START).await?;
        assert_eq!(taken.len(), 2, "the lease is held");
        relay.publish(&taken, START).await?;
    }
    Ok(())
}

async fn what_is_unsent_or_resting_is_not_replayed(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene
        .append(&messages(["waits", "rests", "published"]))
        .await?;
    let taken = scene.relay.take(3, START).await?;
    scene
        .relay
        .fail(&taken[0], after(60), OnFailure::BlockKey, START)
        .await?;
    scene
        .relay
        .quarantine(&taken[1], OnFailure::BlockKey, START)
        .await?;
    scene.relay.publish(&taken[2..], START).await?;
    assert_eq!(replay(&scene, &everything()).await?, 1);
    assert_eq!(texts(&scene, START).await?, ["published"]);
    let stats = scene.outbox.stats(START).await?;
    assert_eq!((stats.waiting, stats.quarantined), (1, 1));
    Ok(())
}

async fn what_was_purged_is_not_replayed(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&messages(["a"])).await?;
    scene.relay.drain(1, START).await?;
    assert_eq!(scene.outbox.purge(after(1), 10).await?, 1);
    assert_eq!(replay(&scene, &everything()).await?, 0);
    Ok(())
}

async fn a_replay_wakes_the_relay(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::keeping_published(harness).await?;
    scene.append(&messages(["a"])).await?;
    scene.relay.drain(1, START).await?;
    let replaying = scene.store.open_replay().await?;
    let mut listener = scene.outbox.wake().listen();
    listener.mark_seen();
    replaying.replay(&everything()).await?;
    let woken = tokio::time::timeout(std::time::Duration::from_secs(10), listener.notified());
    assert!(woken.await.is_ok(), "nobody was woken");
    Ok(())
}
