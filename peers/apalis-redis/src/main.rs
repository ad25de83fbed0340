//! apalis with Redis in the comparison.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage};
use futures_util::stream;
use peers_task::{HEADERS, Order, Problem, Reading, Settings, TOPIC, Times, all_came};
use ulid::Ulid;

/// How many tasks are fetched at once, tuned.
const FETCH: usize = 500;

/// How many tasks are handled at once, tuned; without a limit by default.
const AT_ONCE: usize = 100;

fn main() -> ExitCode {
    peers_task::run(|order| async move { queue(&order).await })
}

/// From the queue to a handler that does nothing.
async fn queue(order: &Order) -> Result<Times, Problem> {
    let connection = apalis_redis::connect(order.at.as_str()).await?;
    let mut storage = RedisStorage::<Reading>::new(connection).with_config(config(order));
    let mut times = Times::default();
    for wave in order.waves() {
        let started = Instant::now();
        for readings in order.batches(&wave) {
            let tasks = readings
                .into_iter()
                .map(task)
                .collect::<Result<Vec<_>, _>>()?;
            storage.push_all(stream::iter(tasks)).await?;
        }
        let pushed = Instant::now();
        drain(storage.clone(), order.settings, wave.len() as u64).await?;
        times.push += pushed - started;
        times.drain += pushed.elapsed();
    }
    all_came(order.count, done(&mut storage).await?)?;
    Ok(times)
}

/// How many tasks stand as done.
async fn done(storage: &mut RedisStorage<Reading>) -> Result<u64, Problem> {
    let set = storage.get_config().done_jobs_set();
    let mut count = redis::cmd("SCARD");
    Ok(count.arg(set).query_async(storage.get_connection()).await?)
}

fn config(order: &Order) -> Config {
    let config = Config::default().queue(TOPIC);
    match order.settings {
        Settings::Default => config,
        Settings::Tuned => config
            .batch_size(FETCH)
            .lock_tasks(false)
            .emit_events(false),
    }
}

fn task(reading: Reading) -> Result<Task<Reading>, Problem> {
    let mut headers = MetadataStore::new();
    for (name, value) in HEADERS {
        headers.insert(name, value)?;
    }
    let id = TaskId::from_ulid(Ulid::from(peers_task::id().as_u128()));
    Ok(TaskBuilder::new(reading)
        .task_id(id)
        .with_metadata(headers)
        .build())
}

/// Works until as many tasks were handled.
async fn drain(
    storage: RedisStorage<Reading>,
    settings: Settings,
    count: u64,
) -> Result<(), Problem> {
    let handled = Arc::new(AtomicU64::new(0));
    let handler = move |_: Reading, worker: WorkerContext| {
        let handled = handled.clone();
        async move {
            if handled.fetch_add(1, SeqCst) + 1 == count {
                worker.stop()?;
            }
            Ok::<(), BoxDynError>(())
        }
    };
    // A name that was used a moment ago is taken for that of a worker which still lives.
    let worker = WorkerBuilder::new(peers_task::id().to_string()).backend(storage);
    match settings {
        Settings::Default => worker.build(handler).run().await?,
        Settings::Tuned => worker.concurrency(AT_ONCE).build(handler).run().await?,
    }
    Ok(())
}
