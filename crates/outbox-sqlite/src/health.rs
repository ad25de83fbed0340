use async_trait::async_trait;
use outbox_core::error::Result;
use outbox_core::ports::{Health, HealthCheck};
use outbox_core::time::Timestamp;

use crate::error::Fault;
use crate::store::{At, SqliteStore};

/// Healthy where the file is still the one that was opened and can be read.
#[async_trait]
impl HealthCheck for SqliteStore {
    fn name(&self) -> &str {
        "sqlite"
    }

    async fn check(&self, _now: Timestamp) -> Health {
        match self.probe().await {
            Ok(()) => Health::Healthy,
            Err(error) => Health::Unhealthy(error.to_string()),
        }
    }
}

impl SqliteStore {
    async fn probe(&self) -> Result<()> {
        let probe = async {
            self.verify_file()?;
            let mut reader = self.reader().await?;
            sqlx::query("SELECT epoch FROM outbox_lease")
                .fetch_all(reader.connection())
                .await?;
            reader.finish();
            Ok::<_, Fault>(())
        };
        probe.await.at(self, "health check")
    }
}
