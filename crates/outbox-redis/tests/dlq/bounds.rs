//! What a look at dead letters answers at most, and what a queue still knows of entries that are gone.

use std::time::Duration;

use outbox_core::id::WorkerId;
use outbox_core::ports::{DeliveryOutcome, DequeueRequest, Queue, RecoverRequest};
use outbox_core::status::AttemptRecord;
use outbox_dlq::{Filter, Page, Quarantine};
use outbox_redis_harness::{Answer, RedisServer};

use crate::scene::{LEASE, Scene, Tested, messages, now};

#[tokio::test]
async fn a_page_has_an_end_whatever_was_asked_for() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let scene = Scene::at(&server.url()).await?;
    scene.bury(&messages(0..1_100)).await?;
    let (mut page, mut pages) = (Page::first(usize::MAX), Vec::new());
    loop {
        let listing = scene.quarantine.list(&Filter::default(), page).await?;
        pages.push(listing.letters.len());
        page.after = listing.next;
        if page.after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [1_000, 100]);
    Ok(())
}

/// Messages that failed once, and came back at once.
async fn come_back(scene: &Scene, count: u64) -> Tested {
    scene.enqueue(&messages(0..count)).await?;
    let failure = AttemptRecord {
        at: now(),
        duration: Duration::ZERO,
        kind: "failed".to_owned(),
        error: "no luck".to_owned(),
    };
    let due_at = now();
    scene
        .settle(&DeliveryOutcome::Retry { due_at, failure })
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_recovery_leaves_no_trace_of_entries_that_came_back_and_are_gone() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let scene = Scene::at(&server.url()).await?;
    come_back(&scene, 3).await?;
    let (owner, lease) = (WorkerId::from_bytes([9; 16]), LEASE);
    let request = DequeueRequest {
        owner,
        max: 10,
        lease,
        wait: Duration::ZERO,
        now: now(),
    };
    assert_eq!(scene.queue.dequeue(&request).await?.deliveries.len(), 3);
    let mut wire = server.wire().await?;
    let back = "outbox:{tasks}:workers:back";
    assert_eq!(wire.command(&["EXISTS", back]).await?, Answer::Number(1));
    // As whoever trims a stream by hand does.
    let trim = ["XTRIM", "outbox:{tasks}:stream", "MAXLEN", "0"];
    wire.command(&trim).await?;
    tokio::time::sleep(lease).await;
    let request = RecoverRequest {
        owner,
        max: 10,
        lease,
        now: now(),
    };
    let report = scene.queue.recover_stuck(&request).await?;
    assert_eq!(report.deliveries.len(), 0);
    assert_eq!(wire.command(&["EXISTS", back]).await?, Answer::Number(0));
    Ok(())
}
