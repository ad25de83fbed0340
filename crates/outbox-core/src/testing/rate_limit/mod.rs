//! Cases of [`crate::ports::RateLimiter`].

mod alike;
mod day;
mod gcra;
mod harness;
mod scene;
mod table;
mod window;

pub use harness::{LimiterSetup, RateLimitCapabilities, RateLimitHarness, RateLimitStore};
pub use table::rate_limit_cases;
