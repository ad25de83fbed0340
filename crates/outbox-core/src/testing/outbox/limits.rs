use super::harness::OutboxHarness;
use super::scene::{START, Scene, message};
use super::table::{OutboxCase, TRANSACTIONS};
use crate::error::{BoxError, OutboxError, Result};
use crate::message::{JSON, Kind, Limits, NewMessage};
use crate::report::AppendReport;
use crate::testing::kit::{CaseResult, case};

pub(super) const CASES: &[OutboxCase] = &[
    case!("2.4", every_limit_is_named_with_the_value_over_it),
    case!("2.4", a_batch_over_its_limit_is_refused),
    case!("2.4", values_at_their_limits_are_accepted),
    case!("2.4", one_message_over_a_limit_refuses_its_whole_batch),
    case!("2.4", a_transaction_is_held_to_the_limits, TRANSACTIONS),
    case!("11", a_payload_that_is_not_its_json_is_refused),
    case!("11", a_message_without_a_topic_is_refused),
];

/// Small enough that a short text is too long.
fn small() -> Limits {
    Limits {
        payload_bytes: 8,
        headers: 2,
        header_bytes: 8,
        name_bytes: 16,
        batch: 3,
    }
}

async fn scene(harness: &dyn OutboxHarness) -> Result<Scene, BoxError> {
    Scene::with(harness, small(), false).await
}

/// A message that keeps all small limits.
fn fitting() -> NewMessage {
    message("12345678").content_type("text/plain")
}

/// The limit that refused an append, with the value found and the greatest one allowed.
fn broken_limit(answer: Result<AppendReport>) -> Result<(String, u64, u64), BoxError> {
    match answer {
        Err(OutboxError::Limit {
            what,
            actual,
            limit,
        }) => Ok((what, actual, limit)),
        other => Err(format!("a limit was to be named: {other:?}").into()),
    }
}

async fn every_limit_is_named_with_the_value_over_it(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = scene(harness).await?;
    let long = "x".repeat(17);
    let cases = [
        (message("123456789"), "payload bytes", 9, 8),
        (
            fitting().header("a", "").header("b", "").header("c", ""),
            "headers",
            3,
            2,
        ),
        (fitting().header("abcd", "12345"), "header bytes", 9, 8),
        (NewMessage::new(long.clone(), ""), "topic bytes", 17, 16),
        (
            fitting().kind(Kind::new(long.clone())),
            "kind bytes",
            17,
            16,
        ),
        (
            fitting().content_type(long.clone()),
            "content type bytes",
            17,
            16,
        ),
        (
            fitting().ordering_key(long.clone()),
            "ordering key bytes",
            17,
            16,
        ),
        (
            fitting().idempotency_key(long.clone()),
            "idempotency key bytes",
            17,
            16,
        ),
        (
            fitting().aggregate(long.clone(), ""),
            "aggregate type bytes",
            17,
            16,
        ),
        (
            fitting().aggregate("", long.clone()),
            "aggregate id bytes",
            17,
            16,
        ),
    ];
    for (message, what, actual, limit) in cases {
        let found = broken_limit(scene.outbox.append(&[message]).await)?;
        assert_eq!(found, (what.to_owned(), actual, limit));
    }
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    Ok(())
}

async fn a_batch_over_its_limit_is_refused(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = scene(harness).await?;
    let found = broken_limit(scene.outbox.append(&vec![fitting(); 4]).await)?;
    assert_eq!(found, ("messages in a batch".to_owned(), 4, 3));
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    Ok(())
}

async fn values_at_their_limits_are_accepted(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = scene(harness).await?;
    let name = "x".repeat(16);
    let full = NewMessage::new(name.clone(), "12345678")
        .kind(Kind::new(name.clone()))
        .content_type(name.clone())
        .ordering_key(name.clone())
        .idempotency_key(name.clone())
        .aggregate(name.clone(), name)
        .header("a", "123")
        .header("b", "123");
    let report = scene.outbox.append(&[full, fitting(), fitting()]).await?;
    assert_eq!(report.added(), 3);
    Ok(())
}

async fn one_message_over_a_limit_refuses_its_whole_batch(
    harness: &dyn OutboxHarness,
) -> CaseResult {
    let scene = scene(harness).await?;
    let key = |message: NewMessage| message.idempotency_key("k");
    let batch = [key(fitting()), message("123456789")];
    assert!(scene.outbox.append(&batch).await.is_err());
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    let report = scene.outbox.append(&[key(fitting())]).await?;
    assert_eq!(report.added(), 1, "the refused batch left its key behind");
    Ok(())
}

async fn a_transaction_is_held_to_the_limits(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = scene(harness).await?;
    let mut open = scene.store.begin().await?;
    open.append(&[fitting()]).await?;
    let found = broken_limit(open.append(&[message("123456789")]).await)?;
    assert_eq!(found.0, "payload bytes");
    drop(open);
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    Ok(())
}

async fn a_payload_that_is_not_its_json_is_refused(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let broken = message("{\"a\":").content_type(JSON);
    let answer = scene.outbox.append(&[message("sound"), broken]).await;
    assert!(
        matches!(answer, Err(OutboxError::Codec { .. })),
        "{answer:?}"
    );
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    Ok(())
}

async fn a_message_without_a_topic_is_refused(harness: &dyn OutboxHarness) -> CaseResult {
    let scene = Scene::new(harness).await?;
    let answer = scene.outbox.append(&[NewMessage::new("", "x")]).await;
    assert!(
        matches!(answer, Err(OutboxError::Codec { .. })),
        "{answer:?}"
    );
    assert_eq!(scene.outbox.stats(START).await?.unsent(), 0);
    Ok(())
}
