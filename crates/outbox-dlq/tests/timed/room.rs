use std::sync::Arc;
use std::time::Duration;

use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::memory::{MemoryQueue, MemoryQueueConfig};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{DeliveryOutcome, DeliverySettlement, DequeueRequest, Queue};
use outbox_core::signal::Shutdown;
use outbox_core::status::AttemptRecord;
use outbox_dlq::{Filter, MemoryQuarantine, Operator, Origin, RedriveConfig, RedriveSummary};

use crate::fixture::{SECOND, World};

/// How many entries each queue takes.
const ROOM: usize = 3;

/// A queue whose dead letters are `resting`, and that has `waiting` messages in it.
async fn queue(world: &World, name: &str, (resting, waiting): (usize, usize)) -> MemoryQueue {
    let config = MemoryQueueConfig {
        name: name.to_owned(),
        high_water: ROOM,
        ..MemoryQueueConfig::default()
    };
    let queue = MemoryQueue::new(config, Arc::clone(&world.clock));
    let dead = DeliveryOutcome::Quarantine {
        failure: AttemptRecord {
            at: world.clock.now(),
            duration: Duration::ZERO,
            kind: "failed".to_owned(),
            error: "no luck".to_owned(),
        },
    };
    fill(world, &queue, resting).await;
    assert_eq!(settle(world, &queue, &dead).await, resting);
    fill(world, &queue, waiting).await;
    queue
}

async fn fill(world: &World, queue: &MemoryQueue, count: usize) {
    let new = NewMessage::new("t", "text");
    let now = world.clock.now();
    let message = |_| Message::appended(&new, MessageId::new(now, &Entropy::from_system()), now);
    let messages: Vec<_> = (0..count).map(message).collect();
    for told in queue.enqueue(&messages).await {
        told.unwrap();
    }
}

/// Takes what is there, and settles it so; how many there were.
async fn settle(world: &World, queue: &MemoryQueue, outcome: &DeliveryOutcome) -> usize {
    let request = DequeueRequest {
        owner: WorkerId::from_bytes([1; 16]),
        max: 100,
        lease: SECOND,
        wait: Duration::ZERO,
        now: world.clock.now(),
    };
    let taken = queue.dequeue(&request).await.unwrap().deliveries;
    let settlement = |delivery: &outbox_core::delivery::Delivery| DeliverySettlement {
        receipt: delivery.receipt,
        outcome: outcome.clone(),
    };
    let settlements: Vec<_> = taken.iter().map(settlement).collect();
    let report = queue.settle(&settlements, world.clock.now()).await.unwrap();
    assert!(report.lost.is_empty());
    taken.len()
}

async fn depth(world: &World, queue: &MemoryQueue) -> u64 {
    queue.stats(world.clock.now()).await.unwrap().depth()
}

/// Redrives everything of two queues, of which the first is full, beside `story`, which ends it.
async fn beside(
    world: &World,
    (full, roomy): (&MemoryQueue, &MemoryQueue),
    story: impl AsyncFnOnce(),
) -> RedriveSummary {
    let quarantine = MemoryQuarantine::new();
    let quarantine = quarantine
        .with_queue(full.clone())
        .with_queue(roomy.clone());
    let operator = Operator::new(Arc::new(quarantine), "ada")
        .driven_by(Arc::clone(&world.clock), Entropy::seeded(2));
    let (all, config, shutdown) = (Filter::default(), RedriveConfig::default(), Shutdown::new());
    let told = async {
        story().await;
        shutdown.trigger();
    };
    let (summary, ()) = tokio::join!(operator.redrive(&all, &config, &shutdown), told);
    summary.unwrap()
}

#[tokio::test(start_paused = true)]
async fn beside_a_full_queue_what_has_room_goes_on() {
    let world = World::new();
    let full = queue(&world, "a", (2, ROOM)).await;
    let roomy = queue(&world, "b", (3, 0)).await;
    let summary = beside(&world, (&full, &roomy), async || {
        world.until(1.0).await;
        assert_eq!(depth(&world, &roomy).await, 3);
        world.until(60.0).await;
        let handled = settle(&world, &full, &DeliveryOutcome::Done).await;
        assert_eq!(handled, ROOM);
        world.until(66.0).await;
        assert_eq!(depth(&world, &full).await, 2);
    })
    .await;
    assert_eq!((summary.redriven, summary.stopped), (5, false));
    assert_eq!(summary.full, []);
}

#[tokio::test(start_paused = true)]
async fn a_redrive_that_is_stopped_tells_every_queue_that_it_waited_for() {
    let world = World::new();
    let full = queue(&world, "a", (2, ROOM)).await;
    let other = queue(&world, "b", (3, 1)).await;
    let summary = beside(&world, (&full, &other), async || world.until(9.0).await).await;
    assert_eq!((summary.redriven, summary.stopped), (2, true));
    let origins = ["a", "b"].map(|name| Origin::Queue(name.to_owned()));
    assert_eq!(summary.full, origins);
    assert!(world.elapsed() < 10 * SECOND);
}
