//! What is in the place of ours.

use std::time::Duration;

use outbox_core::error::PublishError;
use outbox_core::ports::{DeliveryOutcome, DequeueReport, Queue};
use outbox_core::time::{Clock, SystemClock};
use outbox_redis::{RedisOptions, RedisQueue, RedisQueueConfig, RedisStore};
use outbox_redis_harness::RedisServer;

use crate::scene::{
    LEASE, STREAM, Tested, enqueue_all, handle_all, messages, queue_at, request, settlements,
    worker,
};

#[tokio::test]
async fn a_key_of_another_type_is_named() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let mut wire = server.wire().await?;
    wire.command(&["SET", STREAM, "mine"]).await?;
    let error = queue_at(&server.url()).await.err().ok_or("it was opened")?;
    let text = error.to_string();
    assert!(text.contains("another type"), "{text}");
    assert_eq!(
        wire.command(&["GET", STREAM]).await?.text().as_deref(),
        Some("mine")
    );
    Ok(())
}

#[tokio::test]
async fn an_entry_that_is_not_ours_is_quarantined_by_itself() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    enqueue_all(&queue, &messages(0..1)).await?;
    let mut wire = server.wire().await?;
    let strange: [&[&str]; 3] = [
        &["XADD", STREAM, "*", "greeting", "hello"],
        &["XADD", STREAM, "*", "m", "no frame"],
        &["XADD", STREAM, "*", "m", "", "a", "many"],
    ];
    for words in strange {
        wire.command(words).await?;
    }
    enqueue_all(&queue, &messages(1..2)).await?;
    let report = queue.dequeue(&request(worker(), Duration::ZERO)).await?;
    assert_eq!((report.deliveries.len(), report.unreadable.len()), (2, 3));
    let stats = queue.stats(SystemClock.now()).await?;
    assert_eq!((stats.depth(), stats.quarantined), (2, 3));
    let record = &queue.quarantined(10).await?[0];
    assert_eq!(record.kind, "unreadable");
    assert!(record.error.contains("no field `m`"), "{record:?}");
    Ok(())
}

#[tokio::test]
async fn a_key_of_another_type_beside_the_stream_is_named_and_loses_nothing() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let mut wire = server.wire().await?;
    for part in ["held", "holds", "counts", "delayed", "returned", "bell"] {
        let key = format!("outbox:{{tasks}}:workers:{part}");
        enqueue_all(&queue, &messages(0..3)).await?;
        wire.command(&["SET", &key, "mine"]).await?;
        let asked = request(worker(), Duration::ZERO);
        let told = match queue.dequeue(&asked).await {
            Err(error) => error,
            Ok(report) => {
                let due_at = SystemClock.now() + Duration::from_secs(60);
                let later = DeliveryOutcome::Delay { due_at };
                let later = settlements(&report.deliveries, &later);
                let settled = queue.settle(&later, SystemClock.now()).await;
                settled.err().ok_or_else(|| format!("{part} is a text"))?
            }
        };
        let text = told.to_string();
        assert!(
            !told.is_transient() && text.contains("another type"),
            "{part}: {text}"
        );
        wire.command(&["DEL", &key]).await?;
        assert_eq!(handle_all(&queue).await?.len(), 3, "{part}");
        wire.command(&["FLUSHALL"]).await?;
        handle_all(&queue).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_command_that_is_not_permitted_is_named_and_loses_nothing() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let (queue, batch) = (queue_at(&server.url()).await?, messages(0..3));
    enqueue_all(&queue, &batch).await?;
    let mut wire = server.wire().await?;
    for (user, rule) in [
        ("no-add", "-xadd"),
        ("no-read", "-xreadgroup"),
        ("no-end", "-xdel"),
    ] {
        wire.command(&[
            "ACL", "SETUSER", user, "on", ">pw", "~*", "&*", "+@all", rule,
        ])
        .await?;
        let options = RedisOptions::new(server.url()).user(user, "pw");
        let store = RedisStore::open_with(options).await?;
        let limited = RedisQueue::open(&store, RedisQueueConfig::default()).await?;
        let told = match user {
            "no-add" => {
                let answer = limited.enqueue(&messages(3..4)).await.remove(0);
                let Err(error @ PublishError::Unavailable { .. }) = answer else {
                    return Err(format!("{answer:?}").into());
                };
                error.to_string()
            }
            "no-read" => {
                let read = limited.dequeue(&request(worker(), Duration::ZERO)).await;
                read.err().ok_or("it is not permitted")?.to_string()
            }
            _ => {
                let held = limited.dequeue(&request(worker(), Duration::ZERO)).await?;
                let done = settlements(&held.deliveries, &DeliveryOutcome::Done);
                let settled = limited.settle(&done, SystemClock.now()).await;
                settled.err().ok_or("it is not permitted")?.to_string()
            }
        };
        assert!(told.contains("does not permit"), "{user}: {told}");
    }
    assert_eq!(handle_all(&queue).await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn what_a_server_lets_only_half_be_held_comes_again() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let mut wire = server.wire().await?;
    let owner = worker();
    // The hold cannot be noted at all, or not be moved on.
    for extends in [false, true] {
        enqueue_all(&queue, &messages(0..3)).await?;
        let held = match extends {
            true => queue.dequeue(&request(owner, Duration::ZERO)).await?,
            false => DequeueReport::default(),
        };
        wire.command(&["ACL", "SETUSER", "default", "-zadd"])
            .await?;
        let receipts: Vec<_> = held.deliveries.iter().map(|one| one.receipt).collect();
        let told = match extends {
            true => {
                let extended = queue.extend(&receipts, LEASE, SystemClock.now()).await;
                extended.err().map(|error| error.to_string())
            }
            false => {
                let read = queue.dequeue(&request(owner, Duration::ZERO)).await;
                read.err().map(|error| error.to_string())
            }
        };
        let told = told.ok_or("it is not permitted")?;
        assert!(told.contains("does not permit"), "{told}");
        wire.command(&["ACL", "SETUSER", "default", "+zadd"])
            .await?;
        assert_eq!(handle_all(&queue).await?.len(), 3, "extended: {extends}");
        wire.command(&["FLUSHALL"]).await?;
    }
    Ok(())
}
