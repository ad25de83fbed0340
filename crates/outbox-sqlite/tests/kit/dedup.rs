use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::error::BoxError;
use outbox_core::ports::DeduplicationCache;
use outbox_core::testing::{DedupCapabilities, DedupHarness, DedupStore};
use outbox_sqlite::{SqliteDeduplicationCache, SqliteStore};
use tempfile::TempDir;

/// Makes caches in files of their own.
pub(crate) struct SqliteHarness;

#[async_trait]
impl DedupHarness for SqliteHarness {
    fn capabilities(&self) -> DedupCapabilities {
        DedupCapabilities::default()
    }

    async fn fresh(&self) -> Result<Box<dyn DedupStore>, BoxError> {
        Ok(Box::new(Store(tempfile::tempdir()?)))
    }
}

struct Store(TempDir);

#[async_trait]
impl DedupStore for Store {
    async fn open(&self) -> Result<Arc<dyn DeduplicationCache>, BoxError> {
        let store = SqliteStore::open(self.0.path().join("dedup.db")).await?;
        Ok(Arc::new(
            SqliteDeduplicationCache::open(&store, "kit").await?,
        ))
    }
}
