//! What a queue takes of the memory of its server, and what it does where that is full.

use std::collections::BTreeSet;
use std::time::Duration;

use outbox_core::error::PublishError;
use outbox_core::ports::{DeliveryOutcome, Queue};
use outbox_core::time::{Clock, SystemClock};
use outbox_redis::RedisQueueConfig;
use outbox_redis_harness::{Answer, BoxError, RedisServer, Wire};
use tokio::time::sleep;

use crate::scene::{
    BATCHES, HELD, LEASE, STREAM, Tested, enqueue_all, handle_all, ids, messages, queue_at,
    queue_with, request, settlements, worker,
};

#[tokio::test]
async fn a_full_server_refuses_what_is_added_and_hands_out_what_it_has() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let batch = messages(0..100);
    enqueue_all(&queue, &batch).await?;
    let mut wire = server.wire().await?;
    wire.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await?;
    let results = queue.enqueue(&messages(100..101)).await;
    let told = format!("{:?}", results[0]);
    assert!(
        matches!(results[0], Err(PublishError::Unavailable { .. })),
        "{told}"
    );
    assert!(told.contains("OOM"), "{told}");

    let held = queue
        .dequeue(&request(worker(), Duration::ZERO))
        .await?
        .deliveries;
    assert_eq!(held.len(), 100);
    let receipts: Vec<_> = held.iter().map(|delivery| delivery.receipt).collect();
    assert_eq!(queue.extend(&receipts, LEASE, SystemClock.now()).await?, []);
    let due_at = SystemClock.now();
    let later = settlements(&held[..50], &DeliveryOutcome::Delay { due_at });
    assert_eq!(queue.settle(&later, due_at).await?.settled, 50);
    let done = settlements(&held[50..], &DeliveryOutcome::Done);
    assert_eq!(queue.settle(&done, due_at).await?.settled, 50);
    assert_eq!(handle_all(&queue).await?.len(), 50);

    wire.command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    enqueue_all(&queue, &messages(100..101)).await
}

async fn used_memory(wire: &mut Wire) -> Result<i64, BoxError> {
    let keys = wire.command(&["KEYS", "*"]).await?.list();
    let mut used = 0;
    for key in keys.iter().filter_map(Answer::text) {
        let usage = wire
            .command(&["MEMORY", "USAGE", &key, "SAMPLES", "0"])
            .await?;
        if !key.contains(":seen:") {
            used += usage.number().unwrap_or(0);
        }
    }
    Ok(used)
}

#[tokio::test]
async fn a_drained_queue_returns_to_its_empty_size() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let mut wire = server.wire().await?;
    let mut empty = Vec::new();
    for round in 0..3 {
        enqueue_all(&queue, &messages(round * 5_000..(round + 1) * 5_000)).await?;
        assert!(used_memory(&mut wire).await? > 500_000);
        handle_all(&queue).await?;
        empty.push(used_memory(&mut wire).await?);
    }
    assert!(empty.iter().all(|used| *used < 8_000), "{empty:?} bytes");
    Ok(())
}

/// A small hash that is a list is searched from its start for each field: a batch of 500 then costs
/// the server more than twice as much.
#[tokio::test]
async fn a_batch_has_one_lease_record_and_its_entries_once_dissolved_are_no_list() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    enqueue_all(&queue, &messages(0..100)).await?;
    let asked = request(worker(), Duration::ZERO);
    let held = queue.dequeue(&asked).await?.deliveries;
    assert_eq!(held.len(), 100);
    let mut wire = server.wire().await?;
    assert_eq!(wire.command(&["EXISTS", HELD]).await?, Answer::Number(0));
    let done = settlements(&held, &DeliveryOutcome::Done);
    let now = SystemClock.now();
    assert_eq!(queue.settle(&done[..20], now).await?.settled, 20);
    let left = wire.command(&["HGET", BATCHES, "n"]).await?.text();
    assert_eq!(left.as_deref(), Some("80"));

    let receipts: Vec<_> = held.iter().map(|delivery| delivery.receipt).collect();
    let lost = queue.extend(&receipts, LEASE, now).await?;
    assert_eq!(lost, receipts[..20], "what is settled");
    assert_eq!(wire.command(&["EXISTS", BATCHES]).await?, Answer::Number(0));
    let encoding = wire.command(&["OBJECT", "ENCODING", HELD]).await?.text();
    assert_eq!(encoding.as_deref(), Some("hashtable"));
    let values = wire.command(&["HVALS", HELD]).await?.list();
    let differing: BTreeSet<_> = values.iter().filter_map(Answer::text).collect();
    assert_eq!((values.len(), differing.len()), (80, 1));
    assert_eq!(queue.settle(&done[20..], now).await?.settled, 80);
    assert_eq!(wire.command(&["EXISTS", HELD]).await?, Answer::Number(0));
    Ok(())
}

#[tokio::test]
async fn consumers_of_workers_that_are_gone_are_forgotten_and_what_they_hold_is_not() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    enqueue_all(&queue, &messages(0..1)).await?;
    let asked = request(worker(), Duration::ZERO);
    let done = queue.dequeue(&asked).await?.deliveries;
    let done = settlements(&done, &DeliveryOutcome::Done);
    queue.settle(&done, SystemClock.now()).await?;
    enqueue_all(&queue, &messages(1..2)).await?;
    queue.dequeue(&request(worker(), Duration::ZERO)).await?;
    assert_eq!(
        queue.forget_consumers(Duration::from_secs(60)).await?,
        0,
        "too young"
    );
    sleep(Duration::from_millis(20)).await;
    assert_eq!(queue.forget_consumers(Duration::from_millis(10)).await?, 1);
    assert_eq!(queue.stats(SystemClock.now()).await?.in_flight, 1);
    Ok(())
}

#[tokio::test]
async fn each_group_of_a_fanned_out_queue_has_every_message() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let group = |name: &str| RedisQueueConfig {
        group: name.to_owned(),
        fan_out: true,
        high_water: 2_000,
        ..RedisQueueConfig::default()
    };
    let (red, blue) = (
        queue_with(&server.url(), group("red")).await?,
        queue_with(&server.url(), group("blue")).await?,
    );
    let mut wire = server.wire().await?;
    for round in 0..3 {
        let batch = messages(round * 1_000..(round + 1) * 1_000);
        enqueue_all(&red, &batch).await?;
        let first = red
            .dequeue(&request(worker(), Duration::ZERO))
            .await?
            .deliveries;
        let later = DeliveryOutcome::Delay {
            due_at: SystemClock.now(),
        };
        red.settle(&settlements(&first, &later), SystemClock.now())
            .await?;
        let of_red = handle_all(&red).await?;
        let length = wire.command(&["XLEN", STREAM]).await?.number();
        assert!(length >= Some(1_000), "blue has read nothing: {length:?}");
        let of_blue = handle_all(&blue).await?;
        for handled in [of_red, of_blue] {
            assert_eq!(handled.len(), 1_000, "each once");
            assert_eq!(handled.into_iter().collect::<BTreeSet<_>>(), ids(&batch));
        }
    }
    red.trim().await?;
    assert_eq!(wire.command(&["XLEN", STREAM]).await?, Answer::Number(0));
    Ok(())
}
