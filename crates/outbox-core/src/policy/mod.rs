//! Policies: pure functions and state machines over [`crate::time::Timestamp`]; nothing here waits.

mod backoff;
mod breaker;
mod pause;
mod retry;

pub use backoff::Backoff;
pub use breaker::{Breaker, BreakerConfig, BreakerState, Permission};
pub(crate) use pause::Pause;
pub use retry::RetryPolicy;
