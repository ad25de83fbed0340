//! oxide-outbox with PostgreSQL in the comparison.

use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use async_trait::async_trait;
use outbox_core::prelude::*;
use outbox_postgres::{PostgresOutbox, PostgresWriter};
use peers_task::{Order, Problem, Reading, Settings, TOPIC, Times, all_came};
use redis::aio::ConnectionManager;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Executor, PgPool};
use tokio::sync::watch;

/// The database of one run.
const DATABASE: &str = "peers";

fn main() -> ExitCode {
    peers_task::run(|order| async move { relay(&order).await })
}

/// From the outbox to a publisher.
async fn relay(order: &Order) -> Result<Times, Problem> {
    let pool = open(&order.at).await?;
    let broker = connect(order.broker.as_deref()).await?;
    let config = Arc::new(config(order));
    let service = OutboxService::new(Arc::new(PostgresWriter), config.clone());
    let mut times = Times::default();
    for wave in order.waves() {
        let started = Instant::now();
        for readings in order.batches(&wave) {
            let mut transaction = pool.begin().await?;
            for reading in readings {
                service
                    .add_event(TOPIC, reading, None, &mut *transaction)
                    .await?;
            }
            transaction.commit().await?;
        }
        let pushed = Instant::now();
        drain(&pool, config.clone(), broker.clone(), wave.len() as u64).await?;
        times.push += pushed - started;
        times.drain += pushed.elapsed();
    }
    all_came(order.count, sent(&pool).await?)?;
    if let Some(broker) = broker {
        all_came(order.count, arrived(broker).await?)?;
    }
    Ok(times)
}

/// A fresh database on the server.
async fn open(server: &str) -> Result<PgPool, Problem> {
    let options = PgConnectOptions::from_str(server)?;
    let mut connection = options.connect().await?;
    for statement in ["DROP DATABASE IF EXISTS peers", "CREATE DATABASE peers"] {
        connection.execute(statement).await?;
    }
    let pool = PgPool::connect_with(options.database(DATABASE)).await?;
    pool.execute(include_str!("../schema.sql")).await?;
    Ok(pool)
}

async fn connect(broker: Option<&str>) -> Result<Option<ConnectionManager>, Problem> {
    match broker {
        Some(address) => {
            let client = redis::Client::open(address)?;
            Ok(Some(client.get_connection_manager().await?))
        }
        None => Ok(None),
    }
}

fn config(order: &Order) -> OutboxConfig<Reading> {
    let mut config = OutboxConfig::default();
    if order.settings == Settings::Tuned {
        config.batch_size = 500;
    }
    config
}

/// Relays until as many events were published.
async fn drain(
    pool: &PgPool,
    config: Arc<OutboxConfig<Reading>>,
    broker: Option<ConnectionManager>,
    count: u64,
) -> Result<(), Problem> {
    let (stop, stopped) = watch::channel(false);
    let transport = Sink {
        broker,
        left: AtomicU64::new(count),
        stop,
    };
    let manager = OutboxManagerBuilder::new()
        .storage(Arc::new(PostgresOutbox::new(pool.clone(), config.clone())))
        .publisher(Arc::new(transport))
        .config(config)
        .shutdown_rx(stopped)
        .build()?;
    Ok(manager.run().await?)
}

/// Publishes to a stream of Redis, or nowhere; the last event stops the relay.
struct Sink {
    broker: Option<ConnectionManager>,
    left: AtomicU64,
    stop: watch::Sender<bool>,
}

#[async_trait]
impl Transport<Reading> for Sink {
    async fn publish(&self, event: Event<Reading>) -> Result<(), OutboxError> {
        if let Some(broker) = &self.broker {
            add(broker.clone(), &event).await?;
        }
        if self.left.fetch_sub(1, SeqCst) == 1 {
            self.stop.send_replace(true);
        }
        Ok(())
    }
}

async fn add(mut broker: ConnectionManager, event: &Event<Reading>) -> Result<(), OutboxError> {
    let failed = |text: String| OutboxError::BrokerError(text);
    let payload = serde_json::to_vec(&event.payload).map_err(|e| failed(e.to_string()))?;
    redis::cmd("XADD")
        .arg(TOPIC)
        .arg("*")
        .arg("id")
        .arg(event.id.as_uuid().to_string())
        .arg("payload")
        .arg(payload)
        .exec_async(&mut broker)
        .await
        .map_err(|e| failed(e.to_string()))
}

/// How many events stand as sent.
async fn sent(pool: &PgPool) -> Result<u64, Problem> {
    let query = "SELECT count(*) FROM outbox_events WHERE status = 'Sent'";
    let sent: i64 = sqlx::query_scalar(query).fetch_one(pool).await?;
    Ok(sent.try_into()?)
}

/// How many entries the stream has.
async fn arrived(mut broker: ConnectionManager) -> Result<u64, Problem> {
    Ok(redis::cmd("XLEN")
        .arg(TOPIC)
        .query_async(&mut broker)
        .await?)
}
