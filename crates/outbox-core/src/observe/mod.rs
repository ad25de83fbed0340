//! What can be seen of the work: names of metrics and spans, health, and metrics (feature
//! `metrics`).

mod health;
#[cfg(feature = "metrics")]
mod metrics;
pub mod names;
mod reports;

pub use health::{CheckReport, HealthReport, HealthThresholds, OutboxHealth, QueueHealth};
#[cfg(feature = "metrics")]
pub use metrics::{
    MetricsHook, describe_metrics, record_added, record_health, record_losses, record_outbox,
    record_queue,
};
pub(crate) use reports::{ReportDesk, tell};
