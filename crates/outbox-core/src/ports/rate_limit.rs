use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::time::Timestamp;

/// A limiter's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateDecision {
    /// The permits are taken.
    Allowed {
        /// Permits left in the window, or in the burst.
        remaining: u32,
    },
    /// No permit was taken.
    Limited {
        /// How long until the same request may be allowed.
        retry_after: Duration,
    },
}

/// Throttles what is done, across all processes that share the limiter.
///
/// # Contract
/// - A request for n permits takes all of them or none; a denied request costs nothing.
/// - Of any number of concurrent requests, no more than the limit are allowed in a window.
/// - A request for more permits than can ever be allowed is a [`crate::OutboxError::Limit`].
/// - A refund gives permits back only in the window that they were taken in.
/// - Backends with a server decide on the server's time.
///
/// # Cancel safety
/// A dropped request may have taken its permits.
#[async_trait]
#[doc(alias = "RateLimiterInterface")]
pub trait RateLimiter: Send + Sync {
    /// Asks for `permits`, at least 1.
    ///
    /// # Errors
    /// [`crate::OutboxError::Limit`] where the request can never be allowed,
    /// [`crate::OutboxError::Backend`] where the store failed.
    async fn allow_request(&self, permits: u32, now: Timestamp) -> Result<RateDecision>;

    /// Gives back `permits` that were taken at `taken_at` and not used.
    ///
    /// # Errors
    /// [`crate::OutboxError::Backend`] where the store failed.
    async fn refund(&self, permits: u32, taken_at: Timestamp, now: Timestamp) -> Result<()>;
}
