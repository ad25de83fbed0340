//! Servers that are killed, emptied, or lose what they had.

use std::collections::BTreeSet;
use std::time::Duration;

use outbox_core::ports::{DeliveryOutcome, Health, HealthCheck, Queue};
use outbox_core::time::{Clock, SystemClock};
use outbox_redis_harness::{DURABLE, RedisServer};
use tokio::time::{Instant, sleep};

use crate::scene::{
    LEASE, STREAM, Tested, enqueue_all, handle_all, ids, messages, queue_at, request, settlements,
    worker,
};

#[tokio::test]
async fn a_killed_server_with_a_file_loses_nothing() -> Tested {
    let mut server = RedisServer::start(DURABLE).await?;
    let queue = queue_at(&server.url()).await?;
    let batch = messages(0..200);
    enqueue_all(&queue, &batch).await?;
    let held = queue
        .dequeue(&request(worker(), Duration::ZERO))
        .await?
        .deliveries;
    server.kill().await?;
    assert!(
        queue
            .dequeue(&request(worker(), Duration::ZERO))
            .await
            .is_err()
    );
    server.restart().await?;
    let until = Instant::now() + Duration::from_secs(5);
    let done = settlements(&held, &DeliveryOutcome::Done);
    let settled = loop {
        match queue.settle(&done, SystemClock.now()).await {
            Ok(report) => break report.settled,
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    };
    assert_eq!(settled, 100, "leases survive");
    let handled: BTreeSet<_> = handle_all(&queue).await?.into_iter().collect();
    let held = held.iter().map(|delivery| delivery.message.id);
    assert_eq!(
        handled.into_iter().chain(held).collect::<BTreeSet<_>>(),
        ids(&batch)
    );
    assert_eq!(queue.losses(), 0);
    Ok(())
}

#[tokio::test]
async fn a_killed_server_without_a_file_is_told_as_a_loss() -> Tested {
    let mut server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    enqueue_all(&queue, &messages(0..10)).await?;
    assert_eq!(queue.check(SystemClock.now()).await, Health::Healthy);
    server.kill().await?;
    assert!(matches!(
        queue.check(SystemClock.now()).await,
        Health::Unhealthy(_)
    ));
    server.restart().await?;
    enqueue_all(&queue, &messages(10..20)).await?;
    assert_eq!(handle_all(&queue).await?.len(), 10);
    assert_eq!(queue.losses(), 1);
    assert!(matches!(
        queue.check(SystemClock.now()).await,
        Health::Degraded(_)
    ));
    Ok(())
}

#[tokio::test]
async fn an_emptied_server_is_told_and_the_queue_goes_on() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    enqueue_all(&queue, &messages(0..10)).await?;
    let held = queue
        .dequeue(&request(worker(), Duration::ZERO))
        .await?
        .deliveries;
    server.wire().await?.command(&["FLUSHALL"]).await?;
    let done = settlements(&held, &DeliveryOutcome::Done);
    let report = queue.settle(&done, SystemClock.now()).await?;
    assert_eq!(report.lost.len(), 10, "who lost it is told");
    enqueue_all(&queue, &messages(0..10)).await?;
    assert_eq!(handle_all(&queue).await?.len(), 10);
    assert_eq!(queue.losses(), 1);
    Ok(())
}

#[tokio::test]
async fn a_waiting_worker_survives_what_is_done_to_its_stream() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let mut wire = server.wire().await?;
    let blows: [&[&str]; 4] = [
        &["XGROUP", "DESTROY", STREAM, "workers"],
        &["DEL", STREAM],
        &["FLUSHALL"],
        &["CLIENT", "KILL", "TYPE", "normal"],
    ];
    for (round, blow) in blows.into_iter().enumerate() {
        let other = queue.clone();
        let waiting = tokio::spawn(async move {
            other
                .dequeue(&request(worker(), Duration::from_secs(10)))
                .await
        });
        sleep(Duration::from_millis(100)).await;
        wire.command(blow).await.ok();
        wire = server.wire().await?;
        let number = round as u64;
        enqueue_all(&queue, &messages(number..number + 1)).await?;
        let deliveries = match waiting.await? {
            Ok(report) => report.deliveries,
            // Its connection was cut, and that is told.
            Err(error) if error.is_transient() => {
                queue
                    .dequeue(&request(worker(), Duration::from_secs(10)))
                    .await?
                    .deliveries
            }
            Err(error) => return Err(error.into()),
        };
        assert_eq!(deliveries.len(), 1, "{blow:?}");
        let done = settlements(&deliveries, &DeliveryOutcome::Done);
        assert_eq!(
            queue.settle(&done, SystemClock.now()).await?.settled,
            1,
            "{blow:?}"
        );
    }
    assert_eq!(queue.losses(), 3);
    Ok(())
}

#[tokio::test]
async fn entries_that_vanish_in_flight_are_told() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    enqueue_all(&queue, &messages(0..4)).await?;
    let held = queue
        .dequeue(&request(worker(), Duration::ZERO))
        .await?
        .deliveries;
    let mut wire = server.wire().await?;
    wire.command(&["XTRIM", STREAM, "MAXLEN", "2"]).await?;
    let later = DeliveryOutcome::Delay {
        due_at: SystemClock.now(),
    };
    let first = settlements(&held[..1], &later);
    assert_eq!(queue.settle(&first, SystemClock.now()).await?.settled, 1);
    assert_eq!(queue.losses(), 1, "it cannot come back");
    sleep(LEASE).await;
    assert_eq!(handle_all(&queue).await?.len(), 2);
    assert_eq!(queue.losses(), 2, "it is not recovered");
    Ok(())
}

#[tokio::test]
async fn what_was_in_a_deleted_stream_is_taken_again_where_it_is_sent_again() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let batch = messages(0..50);
    let mut wire = server.wire().await?;
    for in_between in [0, 1] {
        enqueue_all(&queue, &batch).await?;
        wire.command(&["DEL", STREAM]).await?;
        // Others enqueue before a worker finds it out, and makes the group again.
        enqueue_all(&queue, &messages(100..100 + in_between)).await?;
        let handled = handle_all(&queue).await?;
        assert_eq!(handled.len() as u64, in_between);
        for _ in 0..2 {
            enqueue_all(&queue, &batch).await?;
        }
        let handled = handle_all(&queue).await?;
        assert_eq!(handled.len(), 50, "each once");
        assert_eq!(handled.into_iter().collect::<BTreeSet<_>>(), ids(&batch));
        // What was handled is known from here on.
        wire.command(&["DEL", STREAM]).await?;
        handle_all(&queue).await?;
    }
    assert_eq!(queue.losses(), 4);
    Ok(())
}
