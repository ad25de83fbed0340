//! A shop whose orders go to a warehouse, with a quarantine for those that the warehouse does not take.

#[cfg(feature = "redis")]
mod redis;
pub(crate) mod warehouse;

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox::dlq::{DlqHeap, DlqProcessor, DlqProcessorConfig, Quarantine};
use outbox::env::EnvConfig;
use outbox::message::{Kind, NewMessage};
use outbox::policy::{Backoff, RetryPolicy};
use outbox::ports::{Flush, Outbox};
use outbox::relay::{Relay, RelayConfig};
use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteDlqHeap, SqliteOutbox, SqliteQuarantine, SqliteStore};

use warehouse::Warehouse;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// The way of orders from the outbox to the warehouse.
#[async_trait]
trait Way {
    /// Brings them there, until each is there or in quarantine.
    async fn bring(&self) -> Outcome<()>;
}

/// The parts of the shop.
pub(crate) struct Shop {
    pub(crate) quarantine: Arc<dyn Quarantine>,
    pub(crate) warehouse: Arc<Warehouse>,
    /// Whether an order that was tried again is in its old place.
    pub(crate) keeps_order: bool,
    outbox: Arc<SqliteOutbox>,
    processor: DlqProcessor,
    way: Box<dyn Way>,
}

impl Shop {
    /// Opens the shop with its outbox in `folder`; where `env` names a Redis server, orders go on by a
    /// queue there.
    pub(crate) async fn open(folder: &Path, env: &EnvConfig) -> Outcome<Self> {
        let store = SqliteStore::open(folder.join("shop.db")).await?;
        match env.redis_url {
            None => Self::in_file(&store),
            Some(_) => Self::on_redis(&store, env).await,
        }
    }

    /// Orders go straight from the outbox to the warehouse, and what cannot rests beside it.
    fn in_file(store: &SqliteStore) -> Outcome<Self> {
        let outbox = Arc::new(SqliteOutbox::on(store));
        let quarantine = Arc::new(SqliteQuarantine::on(store));
        let warehouse = Arc::new(Warehouse::default());
        let heap = Arc::new(SqliteDlqHeap::on(store));
        let processor = processor(heap, quarantine.clone())?;
        let relay = Relay::new(outbox.clone(), warehouse.clone(), relay_config())?;
        Ok(Self {
            way: Box::new(relay.hook(Arc::new(processor.recorder()))),
            outbox,
            quarantine,
            warehouse,
            keeps_order: true,
            processor,
        })
    }

    #[cfg(feature = "redis")]
    async fn on_redis(store: &SqliteStore, env: &EnvConfig) -> Outcome<Self> {
        redis::open(store, env).await
    }

    #[cfg(not(feature = "redis"))]
    async fn on_redis(_: &SqliteStore, _: &EnvConfig) -> Outcome<Self> {
        let problem = "--redis: this program was built without Redis; \
            build it with --features sqlite,redis,dlq";
        Err(problem.into())
    }

    /// Takes orders.
    pub(crate) async fn order(&self, orders: &[NewMessage]) -> Outcome<()> {
        self.outbox.append(orders).await?;
        Ok(())
    }

    /// Delivers until what can be delivered is, and what cannot be is in quarantine.
    pub(crate) async fn deliver(&self) -> Outcome<()> {
        let shutdown = Shutdown::new();
        let bring = async {
            let brought = self.way.bring().await;
            shutdown.trigger();
            brought
        };
        let (brought, moved) = tokio::join!(bring, self.processor.run(&shutdown));
        moved?;
        brought
    }
}

#[async_trait]
impl Way for Relay {
    async fn bring(&self) -> Outcome<()> {
        match self.flush().await?.unsent {
            0 => Ok(()),
            left => Err(format!("{left} messages are still unsent").into()),
        }
    }
}

/// What fails twice goes to quarantine.
fn processor(
    heap: Arc<dyn DlqHeap>,
    quarantine: Arc<dyn Quarantine>,
) -> outbox::Result<DlqProcessor> {
    let config = DlqProcessorConfig {
        threshold: 2,
        ..DlqProcessorConfig::default()
    };
    DlqProcessor::new(heap, quarantine, config)
}

/// Tries again soon, and gives up late: here the processor decides.
fn retry() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 50,
        backoff: Backoff {
            base: Duration::from_millis(200),
            cap: Duration::from_millis(400),
        },
    }
}

fn relay_config() -> RelayConfig {
    RelayConfig {
        retry: retry(),
        ..RelayConfig::default()
    }
}

/// 60 orders of 6 customers: each tenth is a gift for a customer whom the warehouse does not know, and
/// every other one is a bulk order.
pub(crate) fn orders() -> Vec<NewMessage> {
    let order = |number: u32| {
        let kind = match number % 10 {
            9 => "order.gift",
            even if even % 2 == 0 => "order.bulk",
            _ => "order.plain",
        };
        let new = NewMessage::new("orders", number.to_string()).kind(Kind::new(kind));
        new.ordering_key(format!("customer {}", number % 6))
    };
    (0..60).map(order).collect()
}
