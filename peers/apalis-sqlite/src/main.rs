//! apalis with SQLite in the comparison.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use apalis::prelude::*;
use apalis_sqlite::{Config, SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteStorage};
use futures_util::stream;
use peers_task::{Durable, HEADERS, Order, Problem, Reading, Settings, TOPIC, Times, all_came};
use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use ulid::Ulid;

fn main() -> ExitCode {
    peers_task::run(|order| async move { queue(&order).await })
}

/// From the queue to a handler that does nothing.
async fn queue(order: &Order) -> Result<Times, Problem> {
    let pool = open(order).await?;
    let mut storage = SqliteStorage::<Reading>::new(&pool).with_config(config(order));
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
        drain(storage.clone(), wave.len() as u64).await?;
        times.push += pushed - started;
        times.drain += pushed.elapsed();
    }
    all_came(order.count, done(&pool).await?)?;
    Ok(times)
}

/// Sets the file up as the library does, then opens it with the durability that was asked for on
/// every connection; the library's set-up turns it off, but on one connection only.
async fn open(order: &Order) -> Result<SqlitePool, Problem> {
    let synchronous = match order.durable {
        Durable::Disk => SqliteSynchronous::Full,
        Durable::System => SqliteSynchronous::Off,
    };
    let options = SqliteConnectOptions::new()
        .filename(&order.at)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "64000")
        .pragma("journal_size_limit", "67108864");
    let first = SqlitePool::connect_with(options.clone()).await?;
    SqliteStorage::setup(&first).await?;
    first.close().await;
    Ok(SqlitePoolOptions::new().connect_with(options).await?)
}

fn config(order: &Order) -> Config {
    let config = Config::default().queue(TOPIC);
    match order.settings {
        Settings::Default => config,
        Settings::Tuned => config.lock_tasks(false),
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
async fn drain(storage: SqliteStorage<Reading>, count: u64) -> Result<(), Problem> {
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
    let worker = WorkerBuilder::new("peer").backend(storage).build(handler);
    Ok(worker.run().await?)
}

/// How many tasks stand as done.
async fn done(pool: &SqlitePool) -> Result<u64, Problem> {
    let done: i64 = sqlx::query_scalar("SELECT count(*) FROM Jobs WHERE status = 'Done'")
        .fetch_one(pool)
        .await?;
    Ok(done.try_into()?)
}
