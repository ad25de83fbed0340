use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::error::BoxError;
use outbox_core::message::Message;
use outbox_core::ports::{Outbox, Queue};
use outbox_core::testing::Kit;
use outbox_dlq::testing::{DlqCapabilities, DlqHarness, DlqSetup, DlqStore, dlq_cases, with_dlq};
use outbox_dlq::{DlqHeap, LetterId, Quarantine};
use outbox_redis::{RedisDlqHeap, RedisQuarantine, RedisQueue, RedisQueueConfig};

use crate::dump;
use crate::server::{Place, Server};

/// The format that is written in front of a message's id.
const FORMAT: u8 = 1;

/// `kit` with the cases of dead letters, for a queue of one group and for one of several.
pub(crate) fn with_both(kit: Kit) -> Kit {
    let fan_out: Arc<dyn DlqHarness> = Arc::new(RedisHarness {
        fan_out: true,
        ..RedisHarness::default()
    });
    let capabilities = fan_out.capabilities();
    let kit = with_dlq(kit, RedisHarness::default());
    kit.with("dlq-fan-out", fan_out, &capabilities, dlq_cases())
}

/// Makes queues with their dead letters, read by one group or by several.
#[derive(Default)]
pub(crate) struct RedisHarness {
    pub(crate) server: Server,
    pub(crate) fan_out: bool,
}

#[async_trait]
impl DlqHarness for RedisHarness {
    fn capabilities(&self) -> DlqCapabilities {
        DlqCapabilities {
            outbox: false,
            high_water: true,
            ..DlqCapabilities::default()
        }
    }

    async fn fresh(&self, setup: DlqSetup) -> Result<Box<dyn DlqStore>, BoxError> {
        Ok(Box::new(Store {
            place: self.server.place().await?,
            setup,
            fan_out: self.fan_out,
        }))
    }
}

struct Store {
    place: Place,
    setup: DlqSetup,
    fan_out: bool,
}

impl Store {
    async fn open(&self) -> Result<RedisQueue, BoxError> {
        let store = self.place.store().await?;
        let mut config = RedisQueueConfig {
            fan_out: self.fan_out,
            clock: Arc::clone(&self.setup.clock),
            // Moments are made up here, but this is the server's.
            grace: Duration::from_millis(1),
            ..RedisQueueConfig::named("kit")
        };
        config.high_water = self.setup.high_water.unwrap_or(config.high_water);
        Ok(RedisQueue::open(&store, config).await?)
    }

    /// Damages a message in what the key of a part holds.
    async fn damage(&self, part: &str, message: &Message) -> Result<(), BoxError> {
        let written = [&[FORMAT], &message.id.as_bytes()[..]].concat();
        let damaged = [&[0xee], &message.id.as_bytes()[..]].concat();
        let key = format!("{}:{{kit}}:{part}", self.place.prefix());
        dump::replace(self.place.url(), &key, &written, &damaged).await
    }
}

#[async_trait]
impl DlqStore for Store {
    async fn heap(&self) -> Result<Arc<dyn DlqHeap>, BoxError> {
        let store = self.place.store().await?;
        Ok(Arc::new(RedisDlqHeap::new(&store, "kit")?))
    }

    async fn quarantine(&self) -> Result<Arc<dyn Quarantine>, BoxError> {
        Ok(Arc::new(RedisQuarantine::of(&self.open().await?)))
    }

    async fn outbox(&self) -> Result<Arc<dyn Outbox>, BoxError> {
        Err("there is no outbox in Redis".into())
    }

    async fn queue(&self) -> Result<Arc<dyn Queue>, BoxError> {
        Ok(Arc::new(self.open().await?))
    }

    async fn corrupt(&self, message: &Message) -> Result<(), BoxError> {
        match self.damage("workers:returned", message).await {
            Ok(()) => Ok(()),
            Err(_) => self.damage("stream", message).await,
        }
    }

    async fn corrupt_letter(&self, id: LetterId) -> Result<(), BoxError> {
        let letter = self.quarantine().await?.get(id).await?;
        let message = letter.and_then(|letter| letter.message);
        let message = message.ok_or("there is no such dead letter")?;
        self.damage("workers:quarantine", &message).await
    }
}
