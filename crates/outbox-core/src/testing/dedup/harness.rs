use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::BoxError;
use crate::ports::DeduplicationCache;

/// What a deduplication cache can do, as data; the kit holds it to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupCapabilities {
    /// Whether expired ids stay until they are purged; false where the store drops them by itself.
    /// True by default.
    pub purges: bool,
    /// How much longer than its time a processed id may be remembered; not at all by default. No
    /// backend may forget one earlier.
    pub granularity: Duration,
}

impl Default for DedupCapabilities {
    fn default() -> Self {
        Self {
            purges: true,
            granularity: Duration::ZERO,
        }
    }
}

/// Makes caches for the cases of [`DeduplicationCache`].
#[async_trait]
pub trait DedupHarness: Send + Sync {
    /// What the backend can do.
    fn capabilities(&self) -> DedupCapabilities;

    /// Makes a new, empty cache that shares nothing with any other.
    ///
    /// # Errors
    /// Where the cache cannot be made; the case has failed.
    async fn fresh(&self) -> Result<Box<dyn DedupStore>, BoxError>;
}

/// One cache in its store; what is in it goes when this is dropped.
#[async_trait]
pub trait DedupStore: Send + Sync {
    /// Opens a handle on the cache. Each call opens another one that shares no memory with the
    /// earlier ones, as another process would.
    ///
    /// # Errors
    /// Where the cache cannot be opened.
    async fn open(&self) -> Result<Arc<dyn DeduplicationCache>, BoxError>;
}
