//! Policies: pure functions and state machines over [`crate::time::Timestamp`]; nothing here waits.

mod backoff;
mod breaker;
mod retry;

pub use backoff::Backoff;
pub use breaker::{Breaker, BreakerConfig, BreakerState, Permission};
pub use retry::RetryPolicy;
