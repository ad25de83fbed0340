//! The deduplication cache on the clock and in the memory of real servers, and what becomes of it
//! when they fail. What it promises at all stands in the kit.

mod faults;
mod memory;
mod server_time;

use std::time::Duration;

use outbox_core::error::BoxError;
use outbox_core::id::{Entropy, MessageId};
use outbox_core::ports::{Claim, ClaimToken, DeduplicationCache};
use outbox_core::time::Timestamp;
use outbox_redis::{CompactLayout, DedupLayout, RedisDeduplicationCache, RedisStore, SetsLayout};
use outbox_redis_harness::RedisServer;

type Tested = Result<(), BoxError>;

const LEASE: Duration = Duration::from_secs(30);

const TTL: Duration = Duration::from_secs(3_600);

/// A moment that no server's clock has: what callers believe does not matter.
const NOW: Timestamp = Timestamp::from_millis(1_000);

const PACKED: DedupLayout = DedupLayout::Compact(CompactLayout {
    longest: TTL,
    rotation: TTL,
    expected: 100_000,
});

const SETS: DedupLayout = DedupLayout::Sets(SetsLayout {
    longest: TTL,
    rotation: TTL,
});

const LAYOUTS: [DedupLayout; 3] = [DedupLayout::Plain, PACKED, SETS];

fn ids(count: usize) -> Vec<MessageId> {
    let entropy = Entropy::seeded(7);
    let ids = std::iter::repeat_with(|| MessageId::new(NOW, &entropy));
    ids.take(count).collect()
}

/// A server with a cache on it.
struct Scene {
    server: RedisServer,
    cache: RedisDeduplicationCache,
}

impl Scene {
    async fn new(args: &[&str], layout: DedupLayout) -> Result<Self, BoxError> {
        let server = RedisServer::start(args).await?;
        let store = RedisStore::open(server.url()).await?;
        let cache = RedisDeduplicationCache::open_with(&store, "test", layout).await?;
        Ok(Self { server, cache })
    }

    /// Claims that are to be acquired, all of them.
    async fn acquire(&self, ids: &[MessageId]) -> Result<Vec<(MessageId, ClaimToken)>, BoxError> {
        let claims = self.cache.claim(ids, LEASE, NOW).await?;
        let proof = |(id, claim): (&MessageId, Claim)| match claim {
            Claim::Acquired(token) => Ok((*id, token)),
            other => Err(BoxError::from(format!(
                "{id} was to be acquired: {other:?}"
            ))),
        };
        ids.iter().zip(claims).map(proof).collect()
    }

    /// Claims and completes all of `ids`.
    async fn process(&self, ids: &[MessageId]) -> Tested {
        let claims = self.acquire(ids).await?;
        let done = self.cache.complete(&claims, TTL, NOW).await?;
        assert!(done.iter().all(|done| *done));
        Ok(())
    }
}
