use std::path::Path;
use std::sync::Arc;

use outbox::HandlerError;
use outbox::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use outbox::delivery::Delivery;
use outbox::relay::{Relay, RelayConfig};
use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteOutbox, SqliteQueue, SqliteQueueConfig, Synchronous};
use tokio::time::Instant;

use super::queue::{enqueue, messages};
use crate::Scale;
use crate::report::{Report, Target, median};
use crate::scene::{Counting, fill, fresh, open, remove, runtime};

/// Two and four relays, and workers of the embedded queue, beside one; each with connections of its
/// own, as processes have them.
pub(crate) fn of_relays_and_workers(scale: &Scale, report: &mut Report) {
    let count = scale.messages(20_000, 100_000);
    type Crew = fn(&Scale, usize, usize) -> f64;
    let crews: [(&str, Crew); 2] = [("relays", relays), ("embedded workers", workers)];
    for (who, rate) in crews {
        let sizes = [1, 2, 4];
        let mut rates = sizes.map(|_| Vec::new());
        for _ in 0..scale.rounds {
            for (size, rates) in sizes.into_iter().zip(&mut rates) {
                rates.push(rate(scale, count, size));
            }
        }
        let [one, rest @ ..] = rates.map(|mut rates| median(&mut rates));
        for (size, several) in sizes.into_iter().skip(1).zip(rest) {
            let variant = format!("{size} {who} beside 1, messages/s");
            report.ratio("S-workers", &variant, (several, one), Target::AtLeast(0.9));
        }
    }
}

fn relays(scale: &Scale, count: usize, size: usize) -> f64 {
    let path = fresh(scale, "relays");
    let seconds = runtime().block_on(async {
        let store = open(scale, &path, Synchronous::Full).await;
        fill(&SqliteOutbox::on(&store), count).await;
        let gate = Counting::until(count);
        let mut crew = Vec::new();
        for _ in 0..size {
            let outbox = SqliteOutbox::on(&open(scale, &path, Synchronous::Full).await);
            let config = RelayConfig::default();
            crew.push(Relay::new(Arc::new(outbox), Arc::new(gate.clone()), config).unwrap());
        }
        let shutdown = Shutdown::new();
        let started = Instant::now();
        let running: Vec<_> = crew
            .into_iter()
            .map(|relay| {
                let stop = shutdown.clone();
                tokio::spawn(async move { relay.run(&stop).await.unwrap() })
            })
            .collect();
        gate.all_came().await;
        let seconds = started.elapsed().as_secs_f64();
        shutdown.trigger();
        for relay in running {
            relay.await.unwrap();
        }
        seconds
    });
    remove(&path);
    count as f64 / seconds
}

fn workers(scale: &Scale, count: usize, size: usize) -> f64 {
    let path = fresh(scale, "workers");
    let seconds = runtime().block_on(async {
        let messages = messages(scale, count, |_, message| message);
        enqueue(&queue(scale, &path).await, &messages, 500).await;
        let mut crew = Vec::new();
        for _ in 0..size {
            crew.push(worker(queue(scale, &path).await));
        }
        let started = Instant::now();
        let running: Vec<_> = crew
            .into_iter()
            .map(|worker| {
                tokio::spawn(async move { worker.run_until_empty(&Shutdown::new()).await.unwrap() })
            })
            .collect();
        let mut done = 0;
        for worker in running {
            done += worker.await.unwrap().tally.done;
        }
        assert_eq!(done, count as u64);
        started.elapsed().as_secs_f64()
    });
    remove(&path);
    count as f64 / seconds
}

async fn queue(scale: &Scale, path: &Path) -> SqliteQueue {
    let store = open(scale, path, Synchronous::Full).await;
    let config = SqliteQueueConfig::named("bench");
    SqliteQueue::open(&store, config).await.unwrap()
}

fn worker(queue: SqliteQueue) -> Worker {
    let config = WorkerConfig {
        concurrency: 500,
        prefetch: 500,
        ..WorkerConfig::default()
    };
    let handler = |_: Delivery| std::future::ready(Ok::<(), HandlerError>(()));
    let consumer = Consumer::new(handler, ConsumerConfig::default());
    Worker::new(Arc::new(queue), consumer, config).unwrap()
}
