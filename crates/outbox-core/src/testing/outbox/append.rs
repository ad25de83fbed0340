use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use super::harness::OutboxHarness;
use super::relay::texts;
use super::scene::{START, Scene, TICK, after, message, messages};
use super::table::{IN_COMMIT_ORDER, OutboxCase};
use crate::error::BoxError;
use crate::id::Entropy;
use crate::message::{Aggregate, JSON, Kind, Message, NewMessage, RetryOverride};
use crate::status::OnFailure;
use crate::testing::kit::{CaseResult, case};
use crate::time::Clock;

pub(super) const CASES: &[OutboxCase] = &[
    case!("2.1", what_is_appended_can_be_claimed),
    case!("2.1", what_is_appended_survives_reopening),
    case!("2.2", every_message_gets_an_id_of_version_7_of_its_own),
    case!("2.2", an_id_that_is_brought_along_is_kept),
    case!("2.2", every_field_of_a_message_survives_storage),
    case!("2.2", absent_fields_stay_absent),
    case!("2.2", empty_is_not_absent),
    case!("2.2", payloads_of_any_bytes_survive_storage),
    case!("2.2", texts_of_any_script_survive_storage),
    case!("2.2", a_message_is_created_when_it_is_appended),
    case!("2.5", an_append_of_nothing_adds_nothing),
    case!(
        "2.5",
        a_batch_of_5001_is_stored_whole_and_in_order,
        IN_COMMIT_ORDER
    ),
    case!("3.1", sequences_follow_commits_and_are_never_used_again),
    case!("4.10", id_and_headers_are_the_same_in_every_attempt),
];

async fn what_is_appended_can_be_claimed(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let report = scene.outbox.append(&[message("hello")]).await?;
    assert_eq!((report.added(), report.duplicates()), (1, 0));
    let claim = scene.relay.claim(10, START).await?;
    assert_eq!(texts(&claim.leased), ["hello"]);
    assert_eq!(claim.leased[0].message.id, report.messages[0].id);
    assert_eq!(claim.leased[0].attempt, 1);
    assert!(claim.unreadable.is_empty() && claim.leased[0].history.is_empty());
    Ok(())
}

async fn what_is_appended_survives_reopening(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.append(&messages(["a", "b"])).await?;
    let scene = scene.reopen(2).await?;
    assert_eq!(scene.relay.drain(10, START).await?, ["a", "b"]);
    Ok(())
}

async fn every_message_gets_an_id_of_version_7_of_its_own(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let batch = vec![message("same"); 100];
    let mut ids = scene.append(&batch).await?;
    ids.extend(scene.append(&batch).await?);
    assert!(ids.iter().all(|id| id.as_bytes()[6] >> 4 == 7));
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 200);
    Ok(())
}

async fn an_id_that_is_brought_along_is_kept(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let identified = message("mine").identify(START, &Entropy::seeded(7));
    let ids = scene
        .append(&[identified.clone(), message("theirs")])
        .await?;
    assert_eq!(Some(ids[0]), identified.id);
    assert_ne!(ids[0], ids[1]);
    assert_eq!(scene.relay.take(1, START).await?[0].message.id, ids[0]);
    Ok(())
}

/// Appends `new` and claims it; it must be as it was appended.
async fn round_trip(scene: &Scene, new: NewMessage) -> Result<Message, BoxError> {
    let ids = scene.append(std::slice::from_ref(&new)).await?;
    let taken = scene.relay.take(10, after(100)).await?;
    assert_eq!(taken.len(), 1, "one message was appended");
    let mut expected = Message::appended(&new, ids[0], scene.clock.now());
    expected.sequence = taken[0].token.sequence;
    expected.epoch = taken[0].token.epoch;
    assert_eq!(taken[0].message, expected);
    scene.relay.publish(&taken, after(100)).await?;
    Ok(expected)
}

async fn every_field_of_a_message_survives_storage(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut new = NewMessage::new("orders", r#"{"order":7}"#)
        .kind(Kind {
            name: "order.placed".to_owned(),
            version: u32::MAX,
        })
        .ordering_key("order-7")
        .content_type(JSON)
        .header(
            "traceparent",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        )
        .header("correlation-id", "c-1")
        .header("a header set last", "stays last")
        .due_at(after(60))
        .idempotency_key("place-7")
        .retry(RetryOverride {
            max_attempts: Some(3),
            base: Some(Duration::from_millis(15)),
            cap: Some(Duration::from_nanos(1_500_000_001)),
        });
    new.aggregate = Some(Aggregate {
        type_name: "order".to_owned(),
        id: "7".to_owned(),
        version: u64::from(u32::MAX) + 1,
    });
    round_trip(&scene, new).await?;
    Ok(())
}

async fn absent_fields_stay_absent(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let told = round_trip(&scene, NewMessage::new("t", "")).await?;
    assert_eq!((told.ordering_key, told.aggregate), (None, None));
    assert_eq!(told.due_at, told.created_at);
    Ok(())
}

async fn empty_is_not_absent(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let empty = NewMessage::new("t", "")
        .kind(Kind::new(""))
        .ordering_key("")
        .content_type("")
        .header("", "")
        .aggregate("", "")
        .retry(RetryOverride::default());
    let told = round_trip(&scene, empty).await?;
    assert_eq!(told.ordering_key.as_deref(), Some(""));
    assert_eq!(told.headers.get(""), Some(""));
    assert!(told.aggregate.is_some());
    Ok(())
}

async fn payloads_of_any_bytes_survive_storage(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let payloads = [
        Bytes::new(),
        Bytes::from_static(b"\0"),
        Bytes::from_static(&[0xff, 0xfe, 0x00, 0xc0]),
        Bytes::from(every_byte.clone()),
        Bytes::from(every_byte.repeat(4_096)),
    ];
    for payload in payloads {
        round_trip(&scene, NewMessage::new("t", payload)).await?;
    }
    Ok(())
}

async fn texts_of_any_script_survive_storage(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    for text in [
        "Ærø – „Zürich“",
        "東京都",
        "مرحبا",
        "👩‍👩‍👧 é",
        "'; DROP TABLE x; --",
        "\t\"\\\n%_",
    ] {
        let new = NewMessage::new(text, text)
            .kind(Kind::new(text))
            .ordering_key(text)
            .content_type(text)
            .header(text, text)
            .aggregate(text, text)
            .idempotency_key(text);
        round_trip(&scene, new).await?;
    }
    Ok(())
}

async fn a_message_is_created_when_it_is_appended(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    scene.clock.advance(TICK);
    scene.append(&[message("a")]).await?;
    scene.clock.advance(Duration::from_secs(5));
    scene.append(&[message("b")]).await?;
    let taken = scene.relay.take(10, after(10)).await?;
    let created: Vec<_> = taken
        .iter()
        .map(|leased| leased.message.created_at)
        .collect();
    assert_eq!(created, [START + TICK, after(5) + TICK]);
    Ok(())
}

async fn an_append_of_nothing_adds_nothing(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    assert!(scene.outbox.append(&[]).await?.messages.is_empty());
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    Ok(())
}

async fn a_batch_of_5001_is_stored_whole_and_in_order(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let expected: Vec<String> = (0..5_001).map(|n| n.to_string()).collect();
    let batch: Vec<NewMessage> = expected.iter().map(|text| message(text)).collect();
    let ids = scene.append(&batch).await?;
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 5_001);
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 5_001);
    assert_eq!(scene.relay.drain_in_order(500, START).await?, expected);
    Ok(())
}

async fn sequences_follow_commits_and_are_never_used_again(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let mut sequences = Vec::new();
    for _ in 0..3 {
        scene.append(&messages(["a", "b"])).await?;
        let taken = scene.relay.take(10, START).await?;
        sequences.extend(taken.iter().map(|leased| leased.token.sequence.0));
        scene.relay.publish(&taken, START).await?;
    }
    assert_eq!(sequences.len(), 6);
    assert!(
        sequences[0] > 0 && sequences.is_sorted_by(|a, b| a < b),
        "{sequences:?}"
    );
    Ok(())
}

async fn id_and_headers_are_the_same_in_every_attempt(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let new = message("a").header("correlation-id", "c-1");
    let ids = scene.append(std::slice::from_ref(&new)).await?;
    for attempt in 0..5 {
        let now = after(attempt);
        let taken = scene.relay.take(1, now).await?;
        let told = &taken[0].message;
        assert_eq!((told.id, &told.headers), (ids[0], &new.headers));
        assert_eq!(told.created_at, START);
        let retry_at = after(attempt + 1);
        let on_failure = OnFailure::BlockKey;
        scene
            .relay
            .fail(&taken[0], retry_at, on_failure, now)
            .await?;
    }
    Ok(())
}
