//! Policies: pure functions and state machines over [`crate::time::Timestamp`]; nothing here waits.

mod backoff;
mod breaker;
mod gcra;
mod retry;
mod window;

pub use backoff::Backoff;
pub use breaker::{Breaker, BreakerConfig, BreakerState, Permission};
pub use gcra::{Quota, QuotaDecision};
pub use retry::RetryPolicy;
pub use window::{Window, Zone};
