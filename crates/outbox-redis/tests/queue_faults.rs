//! The queue on servers that are killed, filled, emptied and cut off: nothing that they still have is
//! lost or doubled, and what they lost is told.

use std::collections::BTreeSet;
use std::time::Duration;

use outbox_core::delivery::Delivery;
use outbox_core::error::PublishError;
use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{
    DeliveryOutcome, DeliverySettlement, DequeueRequest, Enqueued, Health, HealthCheck, Queue,
    RecoverRequest,
};
use outbox_core::time::{Clock, SystemClock};
use outbox_redis::{RedisOptions, RedisQueue, RedisQueueConfig, RedisStore};
use outbox_redis_harness::{Answer, BoxError, Fault, Proxy, RedisServer, Wire};
use tokio::time::{Instant, sleep};

type Tested = Result<(), BoxError>;

const LEASE: Duration = Duration::from_millis(400);
const STREAM: &str = "outbox:{tasks}:stream";

/// A queue at `url` that gives up on commands, and looks for lost reads, soon.
async fn queue_at(url: &str) -> Result<RedisQueue, BoxError> {
    queue_with(url, RedisQueueConfig::default()).await
}

async fn queue_with(url: &str, config: RedisQueueConfig) -> Result<RedisQueue, BoxError> {
    let options = RedisOptions::new(url)
        .command_timeout(Duration::from_millis(400))
        .reconnect(Duration::from_millis(10), Duration::from_millis(50));
    let store = RedisStore::open_with(options).await?;
    let config = RedisQueueConfig {
        grace: Duration::from_millis(200),
        ..config
    };
    Ok(RedisQueue::open(&store, config).await?)
}

fn worker() -> WorkerId {
    WorkerId::new(&Entropy::from_system())
}

fn messages(numbers: std::ops::Range<u64>) -> Vec<Message> {
    let message = |number: u64| {
        let mut bytes = [7; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        let new = NewMessage::new("tasks", number.to_string());
        Message::appended(&new, MessageId::from_bytes(bytes), SystemClock.now())
    };
    numbers.map(message).collect()
}

fn request(owner: WorkerId, wait: Duration) -> DequeueRequest {
    DequeueRequest {
        owner,
        max: 100,
        lease: LEASE,
        wait,
        now: SystemClock.now(),
    }
}

fn settlements(deliveries: &[Delivery], outcome: &DeliveryOutcome) -> Vec<DeliverySettlement> {
    let settle = |delivery: &Delivery| DeliverySettlement {
        receipt: delivery.receipt,
        outcome: outcome.clone(),
    };
    deliveries.iter().map(settle).collect()
}

/// Enqueues until every message is there, as a relay would.
async fn enqueue_all(queue: &RedisQueue, batch: &[Message]) -> Tested {
    let until = Instant::now() + Duration::from_secs(10);
    while queue.enqueue(batch).await.iter().any(Result::is_err) {
        assert!(Instant::now() < until, "not enqueued within 10 s");
    }
    Ok(())
}

/// Takes and settles until the queue is empty, as a worker would; how often each message came.
async fn handle_all(queue: &RedisQueue) -> Result<Vec<MessageId>, BoxError> {
    let owner = worker();
    let until = Instant::now() + Duration::from_secs(15);
    let mut handled = Vec::new();
    loop {
        assert!(Instant::now() < until, "not empty within 15 s: {handled:?}");
        let recover = RecoverRequest {
            owner,
            max: 100,
            lease: LEASE,
            now: SystemClock.now(),
        };
        let taken = queue
            .dequeue(&request(owner, Duration::from_millis(100)))
            .await;
        let stuck = queue.recover_stuck(&recover).await;
        let mut deliveries = taken.map(|report| report.deliveries).unwrap_or_default();
        deliveries.extend(stuck.map(|report| report.deliveries).unwrap_or_default());
        let done = settlements(&deliveries, &DeliveryOutcome::Done);
        if let Ok(report) = queue.settle(&done, SystemClock.now()).await {
            let live = (0..done.len()).filter(|place| !report.lost.contains(place));
            handled.extend(live.map(|place| deliveries[place].message.id));
        }
        let stats = queue.stats(SystemClock.now()).await;
        if stats.is_ok_and(|stats| stats.depth() == 0) {
            return Ok(handled);
        }
    }
}

fn ids(batch: &[Message]) -> BTreeSet<MessageId> {
    batch.iter().map(|message| message.id).collect()
}

#[tokio::test]
async fn a_swallowed_reply_doubles_nothing() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let proxy = Proxy::before(server.port()).await?;
    let queue = queue_at(&proxy.url()).await?;
    let batch = messages(0..50);
    for fault in [Fault::SwallowReplies, Fault::CutAtReply] {
        proxy.set(fault);
        let results = queue.enqueue(&batch).await;
        let told = |result: &Result<Enqueued, PublishError>| {
            matches!(result, Err(PublishError::Unavailable { .. }))
        };
        assert!(results.iter().all(told), "{results:?}");
        proxy.set(Fault::None);
        proxy.cut();
    }
    enqueue_all(&queue, &batch).await?;
    let mut wire = server.wire().await?;
    assert_eq!(wire.command(&["XLEN", STREAM]).await?, Answer::Number(50));
    Ok(())
}

#[tokio::test]
async fn a_read_whose_reply_is_lost_comes_again() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let proxy = Proxy::before(server.port()).await?;
    let (queue, direct) = (
        queue_at(&proxy.url()).await?,
        queue_at(&server.url()).await?,
    );
    let batch = messages(0..20);
    enqueue_all(&direct, &batch).await?;
    // The first call makes the connection, so that its replies alone are lost.
    queue.settle(&[], SystemClock.now()).await?;
    queue
        .dequeue(&DequeueRequest {
            max: 1,
            ..request(worker(), Duration::ZERO)
        })
        .await?;
    proxy.set(Fault::SwallowReplies);
    assert!(
        queue
            .dequeue(&request(worker(), Duration::ZERO))
            .await
            .is_err()
    );
    assert_eq!(direct.stats(SystemClock.now()).await?.in_flight, 20);
    let handled = handle_all(&direct).await?;
    assert_eq!(handled.len(), 20);
    assert_eq!(handled.into_iter().collect::<BTreeSet<_>>(), ids(&batch));
    assert_eq!(direct.losses(), 0);
    Ok(())
}

#[tokio::test]
async fn a_dropped_wait_takes_nothing_and_leaves_no_connection() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    for _ in 0..5 {
        let asked = request(worker(), Duration::from_secs(30));
        let waiting = queue.dequeue(&asked);
        let waited = tokio::time::timeout(Duration::from_millis(50), waiting).await;
        assert!(waited.is_err());
    }
    let batch = messages(0..5);
    enqueue_all(&queue, &batch).await?;
    let report = queue.dequeue(&request(worker(), Duration::ZERO)).await?;
    assert_eq!(
        report.deliveries.len(),
        5,
        "an abandoned wait took something"
    );
    let mut wire = server.wire().await?;
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        // This one, the one that all commands share, and one that reads.
        let clients = wire.command(&["CLIENT", "LIST"]).await?.text();
        let clients = clients.unwrap_or_default().lines().count();
        if clients <= 3 {
            return Ok(());
        }
        assert!(Instant::now() < until, "{clients} connections");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_killed_server_with_a_file_loses_nothing() -> Tested {
    let mut server = RedisServer::start(&["--appendonly", "yes"]).await?;
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

#[tokio::test]
async fn latency_and_cuts_lose_and_double_nothing() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let proxy = Proxy::before(server.port()).await?;
    let queue = queue_at(&proxy.url()).await?;
    proxy.set(Fault::Delay(Duration::from_millis(5)));
    let batch = messages(0..300);
    let cutting = async {
        for _ in 0..10 {
            sleep(Duration::from_millis(60)).await;
            proxy.cut();
        }
    };
    let working = async {
        for part in batch.chunks(30) {
            enqueue_all(&queue, part).await?;
        }
        handle_all(&queue).await
    };
    let (handled, ()) = tokio::join!(working, cutting);
    let handled = handled?;
    // One whose settlement took effect unheard is told as lost when it is settled again.
    assert!(handled.len() <= 300);
    assert_eq!(queue.stats(SystemClock.now()).await?.depth(), 0);
    assert_eq!(queue.losses(), 0);
    let mut wire = server.wire().await?;
    assert_eq!(wire.command(&["XLEN", STREAM]).await?, Answer::Number(0));
    Ok(())
}

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

#[tokio::test]
async fn consumers_of_workers_that_are_gone_are_forgotten_and_what_they_hold_is_not() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    enqueue_all(&queue, &messages(0..1)).await?;
    queue.dequeue(&request(worker(), Duration::ZERO)).await?;
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
