use async_trait::async_trait;

use crate::report::BatchReport;

/// A listener to what relays and workers did: metrics, dead-letter counting, audit.
///
/// # Contract
/// Called after the batch was settled. It can delay nothing but the next report, and fail nothing:
/// it has no answer, its time is limited, and a panic in it is caught.
///
/// # Cancel safety
/// Dropped when its time is up.
#[async_trait]
pub trait DeliveryHook: Send + Sync {
    /// Hears what happened to one batch.
    async fn after_batch(&self, report: &BatchReport);
}
