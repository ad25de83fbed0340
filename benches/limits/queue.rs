use std::sync::Arc;
use std::time::Duration;

use outbox::HandlerError;
use outbox::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use outbox::delivery::Delivery;
use outbox::id::MessageId;
use outbox::message::Message;
use outbox::ports::Queue;
use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteQueue, SqliteQueueConfig, Synchronous};
use outbox::time::{Clock, SystemClock};
use tokio::time::Instant;

use crate::Scale;
use crate::raw::{Raw, rows};
use crate::report::{Report, Target, in_turns};
use crate::scene::{fresh, message, open, remove, runtime};

const BATCH: usize = 500;

/// P8: the embedded queue, from enqueue to handled by a handler that does nothing.
pub(crate) fn enqueue_to_handled(scale: &Scale, report: &mut Report) {
    let count = scale.messages(20_000, 100_000);
    let runtime = runtime();
    let (ours_path, raw_path) = (fresh(scale, "p8"), fresh(scale, "p8-raw"));
    let store = runtime.block_on(open(scale, &ours_path, Synchronous::Full));
    let queue = runtime
        .block_on(SqliteQueue::open(&store, SqliteQueueConfig::named("bench")))
        .unwrap();
    let config = WorkerConfig {
        concurrency: 500,
        prefetch: 500,
        ..WorkerConfig::default()
    };
    let handler = |_: Delivery| std::future::ready(Ok::<(), HandlerError>(()));
    let consumer = Consumer::new(handler, ConsumerConfig::default());
    let worker = Worker::new(Arc::new(queue.clone()), consumer, config).unwrap();
    let raw = Raw::open(&raw_path, "FULL");
    let mut salt = 0;
    let ours = || {
        let batches = batches(scale, count);
        let started = Instant::now();
        let done = runtime.block_on(through(&queue, &worker, batches));
        assert_eq!(done, count as u64);
        started.elapsed()
    };
    let limit = || {
        let mut time = Duration::ZERO;
        for _ in 0..count / BATCH {
            salt += 1;
            let rows = rows(BATCH, salt);
            let started = Instant::now();
            raw.insert_batch(&rows);
            assert_eq!(raw.take(BATCH), BATCH);
            time += started.elapsed();
        }
        time
    };
    let (ours, limit) = in_turns(scale.rounds, ours, limit);
    let rates = (count as f64 / ours, count as f64 / limit);
    report.ratio(
        "P8",
        "embedded queue, enqueue to handled, messages/s",
        rates,
        Target::AtLeast(0.4),
    );
    remove(&ours_path);
    remove(&raw_path);
}

/// Enqueues and works at the same time; answers how many were handled.
async fn through(queue: &SqliteQueue, worker: &Worker, batches: Vec<Vec<Message>>) -> u64 {
    let count = batches.iter().map(|batch| batch.len() as u64).sum();
    let filling = queue.clone();
    let producer = tokio::spawn(async move {
        for batch in &batches {
            for result in filling.enqueue(batch).await {
                result.unwrap();
            }
        }
    });
    let mut done = 0;
    while done < count {
        done += worker
            .run_until_empty(&Shutdown::new())
            .await
            .unwrap()
            .tally
            .done;
    }
    producer.await.unwrap();
    done
}

/// What a producer enqueues batch by batch: ids begin with the time at which they were made, and those of
/// one batch are of one moment.
fn batches(scale: &Scale, count: usize) -> Vec<Vec<Message>> {
    let entropy = scale.entropy();
    let began = SystemClock.now();
    let made = |number: usize| {
        let now = began + Duration::from_millis((number / BATCH) as u64);
        Message::appended(&message(number), MessageId::new(now, &entropy), now)
    };
    let all: Vec<_> = (0..count).map(made).collect();
    all.chunks(BATCH).map(<[Message]>::to_vec).collect()
}
