//! What is in the place of ours.

use std::time::Duration;

use outbox_core::ports::Queue;
use outbox_core::time::{Clock, SystemClock};
use outbox_redis_harness::RedisServer;

use crate::scene::{STREAM, Tested, enqueue_all, messages, queue_at, request, worker};

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
