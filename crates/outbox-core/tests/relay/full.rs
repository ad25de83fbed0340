//! A full queue is no dead destination: it is asked again soon, and at once where it says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use outbox_core::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use outbox_core::delivery::Delivery;
use outbox_core::error::FULL_RETRY;
use outbox_core::memory::{MemoryQueue, MemoryQueueConfig};
use outbox_core::ports::{Flush, Publisher, Queue};
use outbox_core::publish::{QueuePublisher, TopicRouter};
use outbox_core::relay::{Relay, RelayConfig};
use outbox_core::signal::Shutdown;
use outbox_core::{HandlerError, PublishError};

use crate::fixture::{SECOND, Sink, World, text};

const HANDLING: Duration = Duration::from_millis(200);

fn narrow_queue(world: &World, high_water: usize) -> Arc<MemoryQueue> {
    let config = MemoryQueueConfig {
        high_water,
        ..MemoryQueueConfig::default()
    };
    Arc::new(MemoryQueue::new(config, Arc::clone(&world.clock)))
}

/// A worker that handles one delivery at a time and holds none in advance.
fn slow_worker(world: &World, queue: &Arc<MemoryQueue>) -> Worker {
    let handler = |_: Delivery| async {
        tokio::time::sleep(HANDLING).await;
        Ok::<_, HandlerError>(())
    };
    let config = WorkerConfig {
        concurrency: 1,
        prefetch: 0,
        ..WorkerConfig::default()
    };
    let consumer = Consumer::new(handler, ConsumerConfig::default());
    Worker::new(Arc::clone(queue) as Arc<dyn Queue>, consumer, config)
        .unwrap()
        .driven_by(Arc::clone(&world.clock), world.entropy.clone())
}

/// Flushes 100 messages through a queue with room for one; how long that takes.
async fn flush_through_one_place(publisher: impl FnOnce(QueuePublisher) -> Arc<dyn Publisher>) {
    let world = World::new(31);
    world.append(&(0..100).map(text).collect::<Vec<_>>()).await;
    let queue = narrow_queue(&world, 1);
    let worker = slow_worker(&world, &queue);
    let publisher = publisher(QueuePublisher::new(Arc::clone(&queue) as Arc<dyn Queue>));
    let relay = Relay::new(
        Arc::new(world.outbox.clone()),
        publisher,
        RelayConfig::default(),
    );
    let relay = relay
        .unwrap()
        .driven_by(Arc::clone(&world.clock), world.entropy.clone());
    let (began, shutdown) = (world.clock.now(), Shutdown::new());
    let flush = async {
        let report = relay.flush().await.unwrap();
        shutdown.trigger();
        report
    };
    let (report, _) = tokio::join!(flush, worker.run(&shutdown));
    assert_eq!((report.unsent, report.tally.done), (0, 100));
    // The worker is never idle for longer than it takes to hand it the next message.
    let took = world.clock.now().since(began);
    assert!(took < HANDLING * 101, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_flush_against_a_full_queue_goes_at_the_pace_of_its_worker() {
    flush_through_one_place(|queue| Arc::new(queue)).await;
}

#[tokio::test(start_paused = true)]
async fn a_router_passes_the_signal_of_room_on() {
    flush_through_one_place(|queue| {
        Arc::new(TopicRouter::new("router").route("topic", Arc::new(queue)))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_names_its_time_is_asked_again_after_just_that() {
    let world = World::new(32);
    let full = Arc::new(AtomicBool::new(true));
    let is_full = Arc::clone(&full);
    let sink = Arc::new(Sink::new(move |_, _| {
        if is_full.load(SeqCst) {
            Err(PublishError::full("full"))
        } else {
            Ok(())
        }
    }));
    world.append(&[text(1)]).await;
    let relay = world.relay(&sink, RelayConfig::default());
    let shutdown = Shutdown::new();
    let reader = async {
        tokio::time::sleep(60 * SECOND).await;
        assert!(sink.calls.lock().unwrap().len() <= 601);
        full.store(false, SeqCst);
        tokio::time::sleep(FULL_RETRY + Duration::from_millis(10)).await;
        assert_eq!(world.unsent().await, 0);
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), reader);
    assert_eq!(report.unwrap().tally.retried, 0);
}
