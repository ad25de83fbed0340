use async_trait::async_trait;

use crate::time::Timestamp;

/// How well a part is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "status", content = "reason", rename_all = "lowercase")]
pub enum Health {
    /// It works.
    Healthy,
    /// It works, but somebody should look.
    Degraded(String),
    /// It does not work.
    Unhealthy(String),
}

impl Health {
    /// The worse of two.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        let rank = |health: &Self| match health {
            Self::Healthy => 0,
            Self::Degraded(_) => 1,
            Self::Unhealthy(_) => 2,
        };
        if rank(&other) > rank(&self) {
            other
        } else {
            self
        }
    }
}

/// A part that can tell how it is.
///
/// # Contract
/// The answer is the part's present state, found out now, within a bounded time.
///
/// # Cancel safety
/// Changes nothing.
#[async_trait]
pub trait HealthCheck: Send + Sync {
    /// The part's name in a report.
    fn name(&self) -> &str;

    /// How the part is at `now`.
    async fn check(&self, now: Timestamp) -> Health;
}
