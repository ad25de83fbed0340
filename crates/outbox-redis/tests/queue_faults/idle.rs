//! Workers that have nothing to do: they ask little, and miss nothing.

use std::sync::Arc;
use std::time::Duration;

use outbox_core::HandlerError;
use outbox_core::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use outbox_core::delivery::Delivery;
use outbox_core::id::WorkerId;
use outbox_core::ports::{DeliveryOutcome, DequeueReport, Queue};
use outbox_core::signal::Shutdown;
use outbox_core::time::{Clock, SystemClock};
use outbox_redis::RedisQueue;
use outbox_redis_harness::{BoxError, RedisServer};
use tokio::time::{Instant, sleep};

use crate::scene::{
    LEASE, STREAM, Tested, enqueue_all, messages, queue_at, request, settlements, worker,
};

const WAIT: Duration = Duration::from_millis(30);

/// How often the server was asked by each of these commands.
async fn asked<const N: usize>(
    server: &RedisServer,
    commands: [&str; N],
) -> Result<[u64; N], BoxError> {
    let mut wire = server.wire().await?;
    let stats = wire.command(&["INFO", "commandstats"]).await?.text();
    let stats = stats.ok_or("no statistics")?;
    Ok(commands.map(|command| {
        let of = format!("cmdstat_{command}:calls=");
        let calls = stats.lines().find_map(|line| line.strip_prefix(&of));
        let calls = calls.and_then(|rest| rest.split(',').next()?.parse().ok());
        calls.unwrap_or(0)
    }))
}

#[tokio::test]
async fn an_idle_worker_asks_once_a_wait_and_now_and_then_for_all() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let handler = |_: Delivery| std::future::ready(Ok::<(), HandlerError>(()));
    let consumer = Consumer::new(handler, ConsumerConfig::default());
    let config = WorkerConfig {
        safety_poll: WAIT,
        ..WorkerConfig::default()
    };
    let worker = Worker::new(Arc::new(queue), consumer, config)?;
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let run = tokio::spawn(async move { worker.run(&stop).await });
    let commands = ["xread", "xreadgroup", "evalsha"];
    let until = Instant::now() + Duration::from_secs(20);
    while asked(&server, commands).await?[0] < 2 {
        assert!(Instant::now() < until, "it does not wait");
        sleep(WAIT).await;
    }
    let [waits, reads, scripts] = asked(&server, commands).await?;
    loop {
        let [more_waits, more_reads, more_scripts] = asked(&server, commands).await?;
        let (waits, reads, scripts) = (
            more_waits - waits,
            more_reads - reads,
            more_scripts - scripts,
        );
        assert_eq!(reads, 0, "what is there is told by the wait");
        // One look after each fourth wait, and consumers that are gone once a minute.
        assert!(
            scripts <= waits / 4 + 2,
            "{scripts} scripts in {waits} waits"
        );
        if waits >= 40 {
            assert!(scripts >= 8, "{scripts} scripts in {waits} waits");
            break;
        }
        assert!(Instant::now() < until, "{waits} waits in 20 s");
        sleep(WAIT).await;
    }
    shutdown.trigger();
    run.await??;
    Ok(())
}

/// A worker that has waited in vain, several times.
async fn idle(queue: &RedisQueue) -> Result<WorkerId, BoxError> {
    let owner = worker();
    for _ in 0..2 {
        let report = queue.dequeue(&request(owner, WAIT)).await?;
        assert!(
            report.deliveries.is_empty() && report.none_held,
            "{report:?}"
        );
    }
    Ok(owner)
}

/// The answer to a worker that waits on, which comes long before its wait would end.
async fn soon(queue: &RedisQueue, owner: WorkerId) -> Result<DequeueReport, BoxError> {
    let began = Instant::now();
    let report = queue
        .dequeue(&request(owner, Duration::from_secs(20)))
        .await?;
    assert!(began.elapsed() < Duration::from_secs(10), "{report:?}");
    Ok(report)
}

#[tokio::test]
async fn what_comes_between_two_waits_ends_the_second() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let owner = idle(&queue).await?;
    enqueue_all(&queue, &messages(0..1)).await?;
    let report = soon(&queue, owner).await?;
    assert_eq!(report.deliveries.len(), 1);
    assert!(!report.none_held);
    Ok(())
}

#[tokio::test]
async fn what_is_due_between_two_waits_ends_the_second() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let (owner, now) = (idle(&queue).await?, SystemClock.now());
    enqueue_all(&queue, &messages(0..1)).await?;
    let held = queue.dequeue(&request(worker(), WAIT)).await?.deliveries;
    let due_at = now + Duration::from_millis(300);
    queue
        .settle(&settlements(&held, &DeliveryOutcome::Delay { due_at }), now)
        .await?;
    assert_eq!(soon(&queue, owner).await?.deliveries.len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_another_takes_between_two_waits_and_keeps_ends_the_second() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let owner = idle(&queue).await?;
    enqueue_all(&queue, &messages(0..1)).await?;
    let held = queue.dequeue(&request(worker(), WAIT)).await?;
    assert_eq!(held.deliveries.len(), 1);
    let report = soon(&queue, owner).await?;
    let end = report.next_expiry.ok_or("no end of the other's lease")?;
    assert!(end <= SystemClock.now() + LEASE, "{end:?}");
    assert!(!report.none_held);
    Ok(())
}

#[tokio::test]
async fn a_stream_that_is_emptied_between_two_waits_is_made_anew() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let owner = idle(&queue).await?;
    server.wire().await?.command(&["FLUSHALL"]).await?;
    enqueue_all(&queue, &messages(0..1)).await?;
    assert_eq!(soon(&queue, owner).await?.deliveries.len(), 1);
    assert_eq!(queue.losses(), 1);
    Ok(())
}

#[tokio::test]
async fn a_group_that_is_gone_is_missed_by_one_who_only_waits() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let owner = idle(&queue).await?;
    let group = ["XGROUP", "DESTROY", STREAM, "workers"];
    server.wire().await?.command(&group).await?;
    let until = Instant::now() + Duration::from_secs(10);
    while queue.losses() == 0 {
        assert!(Instant::now() < until, "nobody missed it");
        queue.dequeue(&request(owner, WAIT)).await?;
    }
    Ok(())
}
