use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::error::BoxError;
use outbox_core::ports::DeduplicationCache;
use outbox_core::testing::{DedupCapabilities, DedupHarness, DedupStore};
use outbox_redis::{CompactLayout, DedupLayout, RedisDeduplicationCache, SetsLayout};

use crate::server::{Place, Server};

/// How coarsely ids are forgotten here where they are packed.
const ROTATION: Duration = Duration::from_secs(900);

/// The same where they are in sets: short, and begun anywhere, so that claims live through its turns.
const TURN: Duration = Duration::from_secs(77);

/// Makes caches in one layout.
pub(crate) struct RedisHarness {
    server: Server,
    layout: DedupLayout,
}

impl RedisHarness {
    pub(crate) fn plain() -> Self {
        Self {
            server: Server::default(),
            layout: DedupLayout::Plain,
        }
    }

    pub(crate) fn compact() -> Self {
        let layout = CompactLayout {
            longest: 4 * ROTATION,
            rotation: ROTATION,
            expected: 10_000,
        };
        Self {
            server: Server::default(),
            layout: DedupLayout::Compact(layout),
        }
    }

    pub(crate) fn sets() -> Self {
        let layout = SetsLayout {
            longest: 64 * TURN,
            rotation: TURN,
        };
        Self {
            server: Server::default(),
            layout: DedupLayout::Sets(layout),
        }
    }
}

#[async_trait]
impl DedupHarness for RedisHarness {
    fn capabilities(&self) -> DedupCapabilities {
        DedupCapabilities {
            purges: false,
            granularity: match self.layout {
                DedupLayout::Plain => Duration::ZERO,
                DedupLayout::Compact(layout) => layout.rotation,
                DedupLayout::Sets(layout) => layout.rotation,
            },
        }
    }

    async fn fresh(&self) -> Result<Box<dyn DedupStore>, BoxError> {
        Ok(Box::new(Store {
            place: self.server.place().await?,
            layout: self.layout,
        }))
    }
}

struct Store {
    place: Place,
    layout: DedupLayout,
}

#[async_trait]
impl DedupStore for Store {
    async fn open(&self) -> Result<Arc<dyn DeduplicationCache>, BoxError> {
        let store = self.place.store().await?;
        let cache = RedisDeduplicationCache::open_with(&store, "kit", self.layout).await?;
        Ok(Arc::new(cache))
    }
}
