use super::harness::OutboxHarness;
use super::relay::{LEASE, Relay, settlements, texts};
use super::scene::{START, Scene, after, failure, keyed, message};
use super::table::{IN_KEY_ORDER, OutboxCase};
use crate::message::NewMessage;
use crate::ports::Outcome;
use crate::status::OnFailure;
use crate::testing::kit::{CaseResult, case};
use crate::time::Timestamp;

pub(super) const CASES: &[OutboxCase] = &[
    case!(
        "3.2",
        a_failing_message_blocks_its_own_key_only,
        IN_KEY_ORDER
    ),
    case!(
        "3.1",
        followers_come_in_order_once_the_retry_succeeds,
        IN_KEY_ORDER
    ),
    case!(
        "3.1",
        followers_come_in_order_after_many_failed_retries,
        IN_KEY_ORDER
    ),
    case!("3.2", quarantining_a_message_unblocks_its_key, IN_KEY_ORDER),
    case!(
        "3.1",
        what_is_appended_to_a_blocked_key_stays_behind,
        IN_KEY_ORDER
    ),
    case!("3.1", a_thousand_followers_come_in_order, IN_KEY_ORDER),
    case!("3.2", blocked_keys_hold_up_no_later_message, IN_KEY_ORDER),
    case!(
        "3.1",
        a_failed_batch_of_a_key_is_retried_in_order,
        IN_KEY_ORDER
    ),
    case!("3.1", a_delayed_message_holds_its_key, IN_KEY_ORDER),
    case!("3.1", a_key_spans_topics, IN_KEY_ORDER),
    case!(
        "3.1",
        keys_that_differ_little_are_different_keys,
        IN_KEY_ORDER
    ),
    case!("3.1", an_empty_key_is_a_key, IN_KEY_ORDER),
    case!(
        "3.1",
        a_blocked_key_stays_blocked_over_a_takeover,
        IN_KEY_ORDER
    ),
    case!("3.2", unkeyed_messages_never_block_each_other),
];

/// Claims the first message, fails it and puts the others back, as a relay does.
async fn fail_first(relay: &Relay, max: usize, due_at: Timestamp, now: Timestamp) -> CaseResult {
    let taken = relay.take_in_order(max, now).await?;
    let retry = Outcome::Retry {
        due_at,
        failure: failure(now, "no route"),
        on_failure: OnFailure::BlockKey,
    };
    let mut settled = settlements(&taken[..1], &retry);
    settled.extend(settlements(&taken[1..], &Outcome::Release));
    let report = relay.outbox.settle(&settled, now).await?;
    assert_eq!(report.settled, taken.len() as u64);
    Ok(())
}

fn all_of(key: &str, texts: &[&str]) -> Vec<NewMessage> {
    texts.iter().map(|text| keyed(key, text)).collect()
}

async fn a_failing_message_blocks_its_own_key_only(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let batch = [
        keyed("k", "a"),
        keyed("k", "behind a"),
        keyed("other", "b"),
        message("c"),
    ];
    scene.append(&batch).await?;
    fail_first(&scene.relay, 4, after(10), START).await?;
    assert_eq!(scene.relay.drain(4, after(1)).await?, ["b", "c"]);
    scene.append(&[keyed("other", "d"), message("e")]).await?;
    assert_eq!(scene.relay.drain(4, after(2)).await?, ["d", "e"]);
    assert_eq!(scene.outbox.stats(after(2)).await?.unsent(), 2);
    Ok(())
}

async fn followers_come_in_order_once_the_retry_succeeds(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&all_of("k", &["a", "b", "c", "d"])).await?;
    fail_first(&scene.relay, 2, after(10), START).await?;
    assert!(scene.relay.take(4, after(9)).await?.is_empty());
    let published = scene.relay.drain_in_order(3, after(10)).await?;
    assert_eq!(published, ["a", "b", "c", "d"]);
    Ok(())
}

async fn followers_come_in_order_after_many_failed_retries(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&all_of("k", &["a", "b", "c"])).await?;
    for second in 0..10 {
        fail_first(&scene.relay, 3, after(second + 1), after(second)).await?;
        assert!(scene.relay.take(3, after(second)).await?.is_empty());
    }
    let first = scene.relay.take_in_order(1, after(10)).await?;
    assert_eq!(
        (texts(&first), first[0].attempt),
        (vec!["a".to_owned()], 11)
    );
    scene.relay.publish(&first, after(10)).await?;
    assert_eq!(scene.relay.drain_in_order(3, after(10)).await?, ["b", "c"]);
    Ok(())
}

async fn quarantining_a_message_unblocks_its_key(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&all_of("k", &["a", "b", "c", "d"])).await?;
    fail_first(&scene.relay, 2, after(1), START).await?;
    assert!(scene.relay.take(4, START).await?.is_empty());
    let retried = scene.relay.take_in_order(1, after(1)).await?;
    scene
        .relay
        .quarantine(&retried[0], OnFailure::BlockKey, after(1))
        .await?;
    assert_eq!(
        scene.relay.drain_in_order(2, after(1)).await?,
        ["b", "c", "d"]
    );
    Ok(())
}

async fn what_is_appended_to_a_blocked_key_stays_behind(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&all_of("k", &["a", "b"])).await?;
    fail_first(&scene.relay, 1, after(10), START).await?;
    for (second, text) in [(1, "c"), (2, "d"), (3, "e")] {
        scene.append(&all_of("k", &[text])).await?;
        assert!(scene.relay.take(5, after(second)).await?.is_empty());
    }
    let published = scene.relay.drain_in_order(2, after(10)).await?;
    assert_eq!(published, ["a", "b", "c", "d", "e"]);
    Ok(())
}

async fn a_thousand_followers_come_in_order(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[keyed("k", "first")]).await?;
    fail_first(&scene.relay, 1, after(10), START).await?;
    let expected: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    for chunk in expected.chunks(250) {
        let batch: Vec<_> = chunk.iter().map(|text| keyed("k", text)).collect();
        scene.append(&batch).await?;
        assert!(scene.relay.take(100, after(1)).await?.is_empty());
    }
    let published = scene.relay.drain_in_order(100, after(10)).await?;
    assert_eq!(published[0], "first");
    assert_eq!(published[1..], expected);
    Ok(())
}

async fn blocked_keys_hold_up_no_later_message(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let batch: Vec<_> = (0..500)
        .map(|n| keyed(&format!("k{}", n % 50), "blocked"))
        .collect();
    scene.append(&batch).await?;
    let taken = scene.relay.take_in_order(50, START).await?;
    for leased in &taken {
        scene
            .relay
            .fail(leased, after(10), OnFailure::BlockKey, START)
            .await?;
    }
    scene
        .append(&[message("free"), keyed("k50", "free")])
        .await?;
    assert_eq!(scene.relay.drain(10, after(1)).await?, ["free", "free"]);
    assert_eq!(scene.relay.drain(100, after(10)).await?.len(), 500);
    Ok(())
}

async fn a_failed_batch_of_a_key_is_retried_in_order(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&all_of("k", &["a", "b", "c"])).await?;
    let taken = scene.relay.take_in_order(2, START).await?;
    // The later message is due earlier.
    scene
        .relay
        .fail(&taken[1], after(1), OnFailure::BlockKey, START)
        .await?;
    scene
        .relay
        .fail(&taken[0], after(5), OnFailure::BlockKey, START)
        .await?;
    assert!(scene.relay.take(3, after(1)).await?.is_empty());
    assert_eq!(
        scene.relay.drain_in_order(1, after(5)).await?,
        ["a", "b", "c"]
    );
    Ok(())
}

async fn a_delayed_message_holds_its_key(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let delayed = keyed("k", "a").due_at(after(10));
    scene
        .append(&[delayed, keyed("k", "b"), keyed("other", "c")])
        .await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["c"]);
    assert_eq!(scene.relay.drain_in_order(10, after(10)).await?, ["a", "b"]);
    Ok(())
}

async fn a_key_spans_topics(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let elsewhere = NewMessage::new("elsewhere", "b").ordering_key("k");
    scene.append(&[keyed("k", "a"), elsewhere]).await?;
    fail_first(&scene.relay, 1, after(10), START).await?;
    assert!(scene.relay.take(10, START).await?.is_empty());
    assert_eq!(scene.relay.drain_in_order(10, after(10)).await?, ["a", "b"]);
    Ok(())
}

async fn keys_that_differ_little_are_different_keys(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let keys = ["k", "K", "k ", " k", "", "k%", "κ"];
    let batch: Vec<_> = keys.iter().map(|key| keyed(key, key)).collect();
    scene.append(&[keyed("k", "first")]).await?;
    fail_first(&scene.relay, 1, after(10), START).await?;
    scene.append(&batch).await?;
    let published = scene.relay.drain(10, START).await?;
    assert_eq!(published.len(), keys.len() - 1, "{published:?}");
    Ok(())
}

async fn an_empty_key_is_a_key(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene
        .append(&[keyed("", "a"), keyed("", "b"), message("c")])
        .await?;
    fail_first(&scene.relay, 1, after(10), START).await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["c"]);
    assert_eq!(scene.relay.drain_in_order(10, after(10)).await?, ["a", "b"]);
    Ok(())
}

async fn a_blocked_key_stays_blocked_over_a_takeover(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&all_of("k", &["a", "b", "c"])).await?;
    scene.append(&[message("x")]).await?;
    let taken = scene.relay.take_in_order(2, START).await?;
    // The relay dies with "b" in flight.
    scene
        .relay
        .fail(&taken[0], after(1_000), OnFailure::BlockKey, START)
        .await?;
    let scene = scene.reopen(2).await?;
    assert_eq!(scene.relay.drain(10, START + LEASE).await?, ["x"]);
    let published = scene.relay.drain_in_order(10, after(1_000)).await?;
    assert_eq!(published, ["a", "b", "c"]);
    Ok(())
}

async fn unkeyed_messages_never_block_each_other(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&[message("failing"), message("a")]).await?;
    let taken = scene.relay.take(1, START).await?;
    scene
        .relay
        .fail(&taken[0], after(10), OnFailure::BlockKey, START)
        .await?;
    scene.append(&[message("b")]).await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["a", "b"]);
    Ok(())
}
