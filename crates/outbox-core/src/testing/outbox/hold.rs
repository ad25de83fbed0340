use std::time::Duration;

use super::harness::OutboxHarness;
use super::relay::texts;
use super::scene::{START, Scene, TICK, after, keyed, message};
use super::table::{IN_COMMIT_ORDER, IN_KEY_ORDER, OutboxCase};
use crate::error::BoxError;
use crate::message::NewMessage;
use crate::ports::Outcome;
use crate::status::OnFailure;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[OutboxCase] = &[
    case!("4.6", a_paused_topic_is_not_claimed),
    case!("4.7", a_paused_topic_holds_up_no_other),
    case!(
        "4.6",
        a_topic_comes_back_in_order_when_it_is_unpaused,
        IN_COMMIT_ORDER
    ),
    case!("4.6", a_pause_costs_no_attempt),
    case!("4.6", a_paused_topic_promises_no_time_that_has_passed),
    case!("4.6", a_retry_of_a_paused_topic_waits_on),
    case!(
        "3.1",
        a_paused_message_blocks_its_key_in_other_topics,
        IN_KEY_ORDER
    ),
    case!("4.6", a_held_message_comes_when_its_time_is_up),
    case!("4.6", a_held_message_waits_for_its_topic_too),
    case!("3.1", a_held_message_blocks_its_key, IN_KEY_ORDER),
    case!(
        "3.2",
        a_skipped_message_that_is_held_lets_its_key_go_on,
        IN_KEY_ORDER
    ),
    case!(
        "3.2",
        a_skipped_message_of_a_paused_topic_lets_its_key_go_on,
        IN_KEY_ORDER
    ),
    case!(
        "4.6",
        an_outage_of_an_hour_leaves_every_message_deliverable,
        IN_COMMIT_ORDER
    ),
    case!("4.6", a_pause_of_one_relay_is_forgotten_by_the_next),
];

/// Messages to topics `t` and `down` in turn.
fn mixed() -> [NewMessage; 4] {
    let down = |text: &str| NewMessage::new("down", text.to_owned());
    [down("a"), message("b"), down("c"), message("d")]
}

fn down() -> Vec<String> {
    vec!["down".to_owned()]
}

async fn a_paused_topic_is_not_claimed(harness: &dyn OutboxHarness) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    scene.relay.paused = vec!["t".to_owned(), "down".to_owned(), "no such".to_owned()];
    scene.append(&mixed()).await?;
    for now in [START, after(3_600)] {
        assert!(scene.relay.take(10, now).await?.is_empty());
    }
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 4);
    Ok(())
}

async fn a_paused_topic_holds_up_no_other(harness: &dyn OutboxHarness) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    scene.relay.paused = down();
    scene.append(&mixed()).await?;
    let many: Vec<_> = (0..1_000).map(|_| NewMessage::new("down", "x")).collect();
    scene.append(&many).await?;
    scene.append(&[message("e")]).await?;
    assert_eq!(scene.relay.drain(2, START).await?, ["b", "d", "e"]);
    Ok(())
}

async fn a_topic_comes_back_in_order_when_it_is_unpaused(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    scene.relay.paused = down();
    let expected: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    for chunk in expected.chunks(100) {
        let batch: Vec<_> = chunk
            .iter()
            .map(|n| NewMessage::new("down", n.clone()))
            .collect();
        scene.append(&batch).await?;
        assert!(scene.relay.take(10, after(1)).await?.is_empty());
    }
    scene.relay.paused.clear();
    assert_eq!(scene.relay.drain_in_order(70, after(2)).await?, expected);
    Ok(())
}

async fn a_pause_costs_no_attempt(harness: &dyn OutboxHarness) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    scene.append(&mixed()).await?;
    for second in 0..50 {
        scene.relay.paused = down();
        let taken = scene.relay.take(10, after(second)).await?;
        scene
            .relay
            .settle_held(&taken, &Outcome::Release, after(second))
            .await?;
    }
    scene.relay.paused.clear();
    let taken = scene.relay.take(10, after(50)).await?;
    assert_eq!(taken.len(), 4);
    assert!(
        taken
            .iter()
            .all(|leased| leased.attempt == 1 && leased.history.is_empty())
    );
    Ok(())
}

async fn a_paused_topic_promises_no_time_that_has_passed(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    scene.relay.paused = down();
    scene.append(&mixed()).await?;
    scene.relay.drain(10, START).await?;
    for now in [START, after(1), after(60)] {
        let claim = scene.relay.claim(10, now).await?;
        assert!(claim.leased.is_empty() && !claim.more);
        let spins = claim.next_due.is_some_and(|due| due <= now);
        assert!(
            !spins,
            "a relay would claim again and again at {now}: {claim:?}"
        );
    }
    Ok(())
}

async fn a_retry_of_a_paused_topic_waits_on(harness: &dyn OutboxHarness) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    scene.append(&[NewMessage::new("down", "a")]).await?;
    let taken = scene.relay.take(1, START).await?;
    scene
        .relay
        .fail(&taken[0], after(5), OnFailure::BlockKey, START)
        .await?;
    scene.relay.paused = down();
    assert!(scene.relay.take(1, after(6)).await?.is_empty());
    scene.relay.paused.clear();
    let retried = scene.relay.take(1, after(7)).await?;
    assert_eq!((retried.len(), retried[0].attempt), (1, 2));
    Ok(())
}

async fn a_paused_message_blocks_its_key_in_other_topics(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    scene.relay.paused = down();
    let batch = mixed().map(|message| message.ordering_key("k"));
    scene.append(&batch).await?;
    assert!(scene.relay.take(10, START).await?.is_empty());
    scene.relay.paused.clear();
    assert_eq!(
        scene.relay.drain_in_order(3, START).await?,
        ["a", "b", "c", "d"]
    );
    Ok(())
}

async fn a_held_message_comes_when_its_time_is_up(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("a")]).await?;
    let mut now = START;
    for _ in 0..3 {
        let taken = scene.relay.take(1, now).await?;
        assert_eq!((taken.len(), taken[0].attempt), (1, 1));
        let until = now + Duration::from_secs(10);
        scene
            .relay
            .settle_held(&taken, &Outcome::Hold { until }, now)
            .await?;
        let early = scene.relay.claim(1, until - TICK).await?;
        assert_eq!((early.leased.len(), early.next_due), (0, Some(until)));
        now = until;
    }
    Ok(())
}

async fn a_held_message_waits_for_its_topic_too(harness: &dyn OutboxHarness) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    scene.append(&[NewMessage::new("down", "a")]).await?;
    let taken = scene.relay.take(1, START).await?;
    let hold = Outcome::Hold { until: after(10) };
    scene.relay.settle_held(&taken, &hold, START).await?;
    assert!(
        scene.relay.take(1, after(5)).await?.is_empty(),
        "its time is not up"
    );
    scene.relay.paused = down();
    assert!(
        scene.relay.take(1, after(15)).await?.is_empty(),
        "its topic is paused"
    );
    scene.relay.paused.clear();
    assert_eq!(scene.relay.drain(1, after(15)).await?, ["a"]);
    Ok(())
}

async fn a_held_message_blocks_its_key(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let batch = ["a", "b", "c"].map(|text| message(text).ordering_key("k"));
    scene.append(&batch).await?;
    let taken = scene.relay.take_in_order(1, START).await?;
    let hold = Outcome::Hold { until: after(10) };
    scene.relay.settle_held(&taken, &hold, START).await?;
    assert!(scene.relay.take(3, after(9)).await?.is_empty());
    assert_eq!(
        scene.relay.drain_in_order(3, after(10)).await?,
        ["a", "b", "c"]
    );
    Ok(())
}

/// An outbox with "a" to topic `down` and "b" and "c" to another, all of key `k`, of which "a"
/// failed, was skipped, and is due at one second.
async fn skipped(harness: &dyn OutboxHarness) -> Result<Scene, BoxError> {
    let scene = Scene::new(harness).await?;
    let failing = NewMessage::new("down", "a").ordering_key("k");
    scene
        .append(&[failing, keyed("k", "b"), keyed("k", "c")])
        .await?;
    let taken = scene.relay.take_in_order(1, START).await?;
    let failed = scene
        .relay
        .fail(&taken[0], after(1), OnFailure::SkipMessage, START);
    failed.await?;
    Ok(scene)
}

async fn a_skipped_message_that_is_held_lets_its_key_go_on(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = skipped(harness).await?;
    let again = scene.relay.take(1, after(1)).await?;
    assert_eq!(texts(&again), ["a"]);
    let hold = Outcome::Hold { until: after(10) };
    scene.relay.settle_held(&again, &hold, after(1)).await?;
    assert_eq!(scene.relay.drain(1, after(2)).await?, ["b", "c"]);
    assert_eq!(scene.relay.drain(1, after(10)).await?, ["a"]);
    Ok(())
}

async fn a_skipped_message_of_a_paused_topic_lets_its_key_go_on(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let mut scene = skipped(harness).await?;
    let again = scene.relay.take(1, after(1)).await?;
    assert_eq!(texts(&again), ["a"]);
    let release = Outcome::Release;
    scene.relay.settle_held(&again, &release, after(1)).await?;
    scene.relay.paused = down();
    assert_eq!(scene.relay.drain(1, after(1)).await?, ["b", "c"]);
    scene.relay.paused.clear();
    assert_eq!(scene.relay.drain(1, after(1)).await?, ["a"]);
    Ok(())
}

async fn an_outage_of_an_hour_leaves_every_message_deliverable(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let batch: Vec<_> = expected
        .iter()
        .map(|n| NewMessage::new("down", n.clone()))
        .collect();
    scene.append(&batch).await?;
    for minute in 0..60 {
        let now = after(minute * 60);
        scene.relay.paused.clear();
        let probe = scene.relay.take(1, now).await?;
        let hold = Outcome::Hold {
            until: after(minute * 60 + 30),
        };
        scene.relay.settle_held(&probe, &hold, now).await?;
        scene.relay.paused = down();
        assert!(scene.relay.take(10, now).await?.is_empty());
    }
    scene.relay.paused.clear();
    let taken = scene.relay.take_in_order(100, after(3_600)).await?;
    assert_eq!(texts(&taken), expected);
    assert!(taken.iter().all(|leased| leased.attempt == 1));
    Ok(())
}

async fn a_pause_of_one_relay_is_forgotten_by_the_next(harness: &dyn OutboxHarness) -> CaseResult {
    let mut scene = Scene::new(harness).await?;
    scene.relay.paused = down();
    scene.append(&mixed()).await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["b", "d"]);
    scene.outbox.release(scene.relay.owner).await?;
    let scene = scene.reopen(2).await?;
    assert_eq!(scene.relay.drain(10, after(1)).await?, ["a", "c"]);
    Ok(())
}
