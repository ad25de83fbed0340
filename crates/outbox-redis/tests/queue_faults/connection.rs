//! Replies that are swallowed, connections that are cut, waits that are dropped.

use std::collections::BTreeSet;
use std::time::Duration;

use outbox_core::OutboxError;
use outbox_core::error::PublishError;
use outbox_core::id::{MessageId, WorkerId};
use outbox_core::ports::{DeliveryOutcome, DequeueRequest, Enqueued, Queue};
use outbox_core::time::{Clock, SystemClock};
use outbox_redis::{RedisOptions, RedisQueue, RedisQueueConfig, RedisStore};
use outbox_redis_harness::{Answer, BoxError, Fault, Proxy, RedisServer, Wire};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::scene::{
    STREAM, Tested, enqueue_all, handle_all, ids, messages, no_more_connections_than, queue_at,
    request, settlements, worker,
};

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
    // This test's own, the one that all commands share, and one that reads.
    no_more_connections_than(3, &server).await
}

#[tokio::test]
async fn more_commands_at_once_than_may_wait_cost_no_connection() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let options = RedisOptions::new(server.url()).max_command_buffer_len(4);
    let store = RedisStore::open_with(options).await?;
    let queue = RedisQueue::open(&store, RedisQueueConfig::default()).await?;
    let mut wire = server.wire().await?;
    let before = connections(&mut wire).await?;
    let now = SystemClock.now();
    let mut all: JoinSet<_> = (0..100)
        .map(|_| {
            let queue = queue.clone();
            async move { queue.stats(now).await }
        })
        .collect();
    let mut refused = 0;
    while let Some(told) = all.join_next().await {
        if let Err(error) = told? {
            assert!(error.is_transient(), "{error}");
            assert!(error.to_string().contains("in-flight"), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 0, "all could wait");
    sleep(Duration::from_millis(200)).await;
    assert_eq!(connections(&mut wire).await?, before);
    Ok(())
}

/// The numbers of the server's clients.
async fn connections(wire: &mut Wire) -> Result<BTreeSet<String>, BoxError> {
    let list = wire.command(&["CLIENT", "LIST"]).await?.text();
    let list = list.unwrap_or_default();
    let first = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    Ok(list.lines().map(first).collect())
}

#[tokio::test]
async fn closing_a_store_ends_every_wait_and_every_connection() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let store = RedisStore::open(server.url()).await?;
    let queue = RedisQueue::open(&store, RedisQueueConfig::default()).await?;
    let other = queue.clone();
    let waiting = tokio::spawn(async move {
        other
            .dequeue(&request(worker(), Duration::from_secs(30)))
            .await
    });
    queue.dequeue(&request(worker(), Duration::ZERO)).await?;
    sleep(Duration::from_millis(100)).await;
    store.close().await;
    assert!(matches!(waiting.await?, Err(OutboxError::Closed)));
    let closed = queue.stats(SystemClock.now()).await;
    assert!(matches!(closed, Err(OutboxError::Closed)));
    no_more_connections_than(1, &server).await
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

/// What a busy worker took in its calls, one list a call.
async fn take_in_turn(
    queue: &RedisQueue,
    owner: WorkerId,
    sizes: &[usize],
) -> Result<Vec<Vec<MessageId>>, BoxError> {
    let mut taken = Vec::new();
    for max in sizes {
        let request = DequeueRequest {
            max: *max,
            lease: Duration::from_secs(30),
            ..request(owner, Duration::ZERO)
        };
        let report = queue.dequeue(&request).await?;
        let ids = report.deliveries.iter().map(|one| one.message.id);
        taken.push(ids.collect());
    }
    Ok(taken)
}

#[tokio::test]
async fn what_is_read_in_parts_comes_in_order_and_once() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let sent: Vec<_> = messages(0..1_500);
    let ids: Vec<_> = sent.iter().map(|message| message.id).collect();
    for (name, commands) in [("roomy", 256), ("narrow", 1)] {
        let options = RedisOptions::new(server.url()).max_command_buffer_len(commands);
        let store = RedisStore::open_with(options).await?;
        let queue = RedisQueue::open(&store, RedisQueueConfig::named(name)).await?;
        enqueue_all(&queue, &sent).await?;
        let taken = take_in_turn(&queue, worker(), &[300, 300, 301, 50, 500, 500, 500]).await?;
        let sizes: Vec<_> = taken.iter().map(Vec::len).collect();
        assert_eq!(sizes, [300, 300, 301, 50, 500, 49, 0], "{name}");
        assert_eq!(taken.concat(), ids, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn two_who_read_in_parts_share_what_is_there() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let sent = messages(0..2_000);
    enqueue_all(&queue, &sent).await?;
    let sizes = [250; 8];
    let (first, second) = tokio::join!(
        take_in_turn(&queue, worker(), &sizes),
        take_in_turn(&queue, worker(), &sizes)
    );
    let mut taken = Vec::new();
    for one in [first?.concat(), second?.concat()] {
        assert!(one.is_sorted(), "each gets them in queue order");
        taken.extend(one);
    }
    assert_eq!(taken.len(), 2_000);
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), ids(&sent));
    Ok(())
}

#[tokio::test]
async fn the_parts_in_front_of_one_that_is_lost_are_handed_out() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let proxy = Proxy::before(server.port()).await?;
    let (queue, direct) = (
        queue_at(&proxy.url()).await?,
        queue_at(&server.url()).await?,
    );
    let mut sent = messages(0..2_000);
    for message in &mut sent {
        message.payload = vec![b'x'; 1_000].into();
    }
    for batch in sent.chunks(500) {
        enqueue_all(&direct, batch).await?;
    }
    let owner = worker();
    let request = DequeueRequest {
        max: 1_000,
        ..request(owner, Duration::ZERO)
    };
    // A full read makes it expect many.
    let first = queue.dequeue(&request).await?.deliveries;
    assert_eq!(first.len(), 1_000);
    let done = settlements(&first, &DeliveryOutcome::Done);
    queue.settle(&done, SystemClock.now()).await?;
    // A megabyte is to come, in pieces of 64 KiB and less.
    proxy.set(Fault::SwallowRepliesAfter(12));
    let report = queue.dequeue(&request).await?;
    let front: Vec<_> = report.deliveries.iter().map(|one| one.message.id).collect();
    assert!((125..1_000).contains(&front.len()), "{}", front.len());
    let all: Vec<_> = sent.iter().map(|message| message.id).collect();
    assert_eq!(front, all[1_000..1_000 + front.len()]);
    // What was read and not heard of comes to others, and what leased what was heard of ends.
    let rest = handle_all(&direct).await?;
    assert_eq!(rest.len(), 1_000);
    assert_eq!(
        rest.into_iter().collect::<BTreeSet<_>>(),
        ids(&sent[1_000..])
    );
    Ok(())
}
