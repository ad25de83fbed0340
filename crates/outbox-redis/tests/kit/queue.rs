use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::delivery::Quarantined;
use outbox_core::error::BoxError;
use outbox_core::id::MessageId;
use outbox_core::ports::Queue;
use outbox_core::testing::{QueueCapabilities, QueueHarness, QueueSetup, QueueStore};
use outbox_redis::{RedisQueue, RedisQueueConfig};

use crate::dump;
use crate::server::{Place, Server};

/// The format that is written in front of a message's id.
const FORMAT: u8 = 1;

/// Makes queues, read by one group or by several, that note leases entry by entry or even a single one
/// as a batch.
#[derive(Default)]
pub(crate) struct RedisHarness {
    pub(crate) server: Server,
    pub(crate) fan_out: bool,
    pub(crate) batches: bool,
}

#[async_trait]
impl QueueHarness for RedisHarness {
    fn capabilities(&self) -> QueueCapabilities {
        QueueCapabilities::default()
    }

    async fn fresh(&self, setup: QueueSetup) -> Result<Box<dyn QueueStore>, BoxError> {
        Ok(Box::new(Store {
            place: self.server.place().await?,
            setup,
            fan_out: self.fan_out,
            batches: self.batches,
        }))
    }
}

struct Store {
    place: Place,
    setup: QueueSetup,
    fan_out: bool,
    batches: bool,
}

impl Store {
    async fn queue(&self) -> Result<RedisQueue, BoxError> {
        let store = self.place.store().await?;
        let usual = RedisQueueConfig::named("kit");
        let config = RedisQueueConfig {
            high_water: self.setup.high_water,
            dedup_window: self.setup.dedup_window,
            fan_out: self.fan_out,
            batch_lease_from: match self.batches {
                true => 1,
                false => usual.batch_lease_from,
            },
            clock: Arc::clone(&self.setup.clock),
            // Moments are made up here, but this is the server's; what is leased later than that is
            // noted entry by entry.
            grace: Duration::from_millis(if self.batches { 100 } else { 1 }),
            ..usual
        };
        Ok(RedisQueue::open(&store, config).await?)
    }
}

#[async_trait]
impl QueueStore for Store {
    async fn open(&self) -> Result<Arc<dyn Queue>, BoxError> {
        Ok(Arc::new(self.queue().await?))
    }

    async fn corrupt(&self, id: MessageId) -> Result<(), BoxError> {
        let written = [&[FORMAT], &id.as_bytes()[..]].concat();
        let damaged = [&[0xee], &id.as_bytes()[..]].concat();
        let key = format!("{}:{{kit}}:stream", self.place.prefix());
        dump::replace(self.place.url(), &key, &written, &damaged).await
    }

    async fn quarantined(&self) -> Result<Vec<Quarantined>, BoxError> {
        Ok(self.queue().await?.quarantined(1_000).await?)
    }
}
