use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::error::BoxError;
use outbox_core::ports::RateLimiter;
use outbox_core::testing::{LimiterSetup, RateLimitCapabilities, RateLimitHarness, RateLimitStore};
use outbox_sqlite::{SqliteFixedWindowLimiter, SqliteGcraLimiter, SqliteStore};
use tempfile::TempDir;

/// Makes limiters in files of their own.
pub(crate) struct SqliteHarness;

#[async_trait]
impl RateLimitHarness for SqliteHarness {
    fn capabilities(&self) -> RateLimitCapabilities {
        RateLimitCapabilities::default()
    }

    async fn fresh(&self, setup: LimiterSetup) -> Result<Box<dyn RateLimitStore>, BoxError> {
        let folder = tempfile::tempdir()?;
        Ok(Box::new(Store { folder, setup }))
    }
}

struct Store {
    folder: TempDir,
    setup: LimiterSetup,
}

#[async_trait]
impl RateLimitStore for Store {
    async fn open(&self) -> Result<Arc<dyn RateLimiter>, BoxError> {
        let store = SqliteStore::open(self.folder.path().join("limits.db")).await?;
        Ok(match self.setup.clone() {
            LimiterSetup::FixedWindow { limit, window } => {
                Arc::new(SqliteFixedWindowLimiter::new(&store, "kit", limit, window)?)
            }
            LimiterSetup::Gcra(quota) => Arc::new(SqliteGcraLimiter::new(&store, "kit", quota)?),
        })
    }
}
