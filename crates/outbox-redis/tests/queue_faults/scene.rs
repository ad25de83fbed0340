//! A queue, its messages, and those who work on it.

use std::collections::BTreeSet;
use std::time::Duration;

use outbox_core::delivery::Delivery;
use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{
    DeliveryOutcome, DeliverySettlement, DequeueRequest, Queue, RecoverRequest,
};
use outbox_core::time::{Clock, SystemClock};
use outbox_redis::{RedisOptions, RedisQueue, RedisQueueConfig, RedisStore};
use outbox_redis_harness::{BoxError, RedisServer};
use tokio::time::{Instant, sleep};

pub(crate) type Tested = Result<(), BoxError>;

pub(crate) const LEASE: Duration = Duration::from_millis(400);
pub(crate) const STREAM: &str = "outbox:{tasks}:stream";
pub(crate) const HELD: &str = "outbox:{tasks}:workers:held";
pub(crate) const BATCHES: &str = "outbox:{tasks}:workers:batches";

/// A queue at `url` that gives up on commands, and looks for lost reads, soon.
pub(crate) async fn queue_at(url: &str) -> Result<RedisQueue, BoxError> {
    queue_with(url, RedisQueueConfig::default()).await
}

pub(crate) async fn queue_with(
    url: &str,
    config: RedisQueueConfig,
) -> Result<RedisQueue, BoxError> {
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

pub(crate) fn worker() -> WorkerId {
    WorkerId::new(&Entropy::from_system())
}

pub(crate) fn messages(numbers: std::ops::Range<u64>) -> Vec<Message> {
    let message = |number: u64| {
        let mut bytes = [7; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        let new = NewMessage::new("tasks", number.to_string());
        Message::appended(&new, MessageId::from_bytes(bytes), SystemClock.now())
    };
    numbers.map(message).collect()
}

pub(crate) fn request(owner: WorkerId, wait: Duration) -> DequeueRequest {
    DequeueRequest {
        owner,
        max: 100,
        lease: LEASE,
        wait,
        now: SystemClock.now(),
    }
}

pub(crate) fn settlements(
    deliveries: &[Delivery],
    outcome: &DeliveryOutcome,
) -> Vec<DeliverySettlement> {
    let settle = |delivery: &Delivery| DeliverySettlement {
        receipt: delivery.receipt,
        outcome: outcome.clone(),
    };
    deliveries.iter().map(settle).collect()
}

/// Enqueues until every message is there, as a relay would.
pub(crate) async fn enqueue_all(queue: &RedisQueue, batch: &[Message]) -> Tested {
    let until = Instant::now() + Duration::from_secs(10);
    while queue.enqueue(batch).await.iter().any(Result::is_err) {
        assert!(Instant::now() < until, "not enqueued within 10 s");
    }
    Ok(())
}

/// Takes and settles until the queue is empty, as a worker would; how often each message came.
pub(crate) async fn handle_all(queue: &RedisQueue) -> Result<Vec<MessageId>, BoxError> {
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

pub(crate) fn ids(batch: &[Message]) -> BTreeSet<MessageId> {
    batch.iter().map(|message| message.id).collect()
}

/// Waits until the server has no more than `most` clients, this test's own connection among them.
pub(crate) async fn no_more_connections_than(most: usize, server: &RedisServer) -> Tested {
    let mut wire = server.wire().await?;
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let clients = wire.command(&["CLIENT", "LIST"]).await?.text();
        let clients = clients.unwrap_or_default().lines().count();
        if clients <= most {
            return Ok(());
        }
        assert!(Instant::now() < until, "{clients} connections");
        sleep(Duration::from_millis(20)).await;
    }
}
