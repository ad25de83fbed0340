use std::sync::Arc;

use async_trait::async_trait;

use crate::error::BoxError;
use crate::policy::{Quota, Window};
use crate::ports::RateLimiter;

/// What the limiters of a backend can do, as data; the kit holds them to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimitCapabilities {
    /// Whether there is a limiter of fixed windows; true by default.
    pub fixed_window: bool,
    /// Whether there is a limiter of a steady rate with bursts; true by default.
    pub gcra: bool,
    /// Whether they decide on the caller's time; false where a server's clock decides, which no
    /// case can set. True by default.
    pub callers_time: bool,
}

impl Default for RateLimitCapabilities {
    fn default() -> Self {
        Self {
            fixed_window: true,
            gcra: true,
            callers_time: true,
        }
    }
}

/// What a fresh limiter is to allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimiterSetup {
    /// So many permits in each window.
    FixedWindow {
        /// The most permits in a window.
        limit: u32,
        /// The windows.
        window: Window,
    },
    /// A steady rate with bursts.
    Gcra(Quota),
}

/// Makes limiters for the cases of [`RateLimiter`].
#[async_trait]
pub trait RateLimitHarness: Send + Sync {
    /// What the backend can do.
    fn capabilities(&self) -> RateLimitCapabilities;

    /// Makes a new limiter, of which nothing was taken, that shares nothing with any other.
    ///
    /// # Errors
    /// Where the limiter cannot be made; the case has failed.
    async fn fresh(&self, setup: LimiterSetup) -> Result<Box<dyn RateLimitStore>, BoxError>;
}

/// One limiter in its store; what is in it goes when this is dropped.
#[async_trait]
pub trait RateLimitStore: Send + Sync {
    /// Opens a handle on the limiter. Each call opens another one that shares no memory with the
    /// earlier ones, as another process would.
    ///
    /// # Errors
    /// Where the limiter cannot be opened.
    async fn open(&self) -> Result<Arc<dyn RateLimiter>, BoxError>;
}
