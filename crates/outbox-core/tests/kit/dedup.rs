use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::error::BoxError;
use outbox_core::memory::MemoryDeduplicationCache;
use outbox_core::ports::DeduplicationCache;
use outbox_core::testing::{DedupCapabilities, DedupHarness, DedupStore};

/// Makes memory caches.
pub(crate) struct MemoryHarness;

#[async_trait]
impl DedupHarness for MemoryHarness {
    fn capabilities(&self) -> DedupCapabilities {
        DedupCapabilities::default()
    }

    async fn fresh(&self) -> Result<Box<dyn DedupStore>, BoxError> {
        Ok(Box::new(Store(MemoryDeduplicationCache::new())))
    }
}

struct Store(MemoryDeduplicationCache);

#[async_trait]
impl DedupStore for Store {
    async fn open(&self) -> Result<Arc<dyn DeduplicationCache>, BoxError> {
        Ok(Arc::new(self.0.clone()))
    }
}
