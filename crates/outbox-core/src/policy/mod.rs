//! Policies: pure functions and state machines over [`crate::time::Timestamp`]; nothing here waits.

mod backoff;
mod breaker;
mod gcra;
mod pause;
mod retry;
mod window;

pub use backoff::Backoff;
pub use breaker::{Breaker, BreakerConfig, BreakerState, Permission};
pub use gcra::{Quota, QuotaDecision};
pub(crate) use pause::Pause;
pub use retry::RetryPolicy;
pub use window::{Window, Zone};
