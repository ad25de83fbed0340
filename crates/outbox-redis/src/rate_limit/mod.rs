//! Throttles that all processes on a server share.

mod config;
mod daily;
mod gcra;
mod permits;
mod window;

pub use config::RedisLimiterConfig;
pub use daily::RedisDailyRateLimiter;
pub use gcra::RedisGcraLimiter;
pub use window::RedisFixedWindowLimiter;
