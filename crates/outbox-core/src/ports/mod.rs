//! The ports: what a backend, a destination or a user's code has to provide.
//!
//! A port's `# Contract` is law for those who implement it, and each sentence is a case of the
//! conformance kit (feature `testing`).
//!
//! # Cancel safety
//! Dropping the future of any port method equals dying at that await: the call may have taken full
//! effect or none, never a part of it, and repeating it with the same ids or tokens is harmless.

mod clock;
mod dedup;
mod delivery_log;
mod flush;
mod handler;
mod health;
mod hook;
mod outbox;
mod publisher;
mod queue;
mod rate_limit;
mod replay;
mod transaction;

pub use clock::Clock;
pub use dedup::{Claim, ClaimToken, DeduplicationCache};
pub use delivery_log::DeliveryLog;
pub use flush::{Flush, FlushReport};
pub use handler::{Handled, Handler, TransactionalHandler};
pub use health::{Health, HealthCheck};
pub use hook::DeliveryHook;
pub use outbox::{ClaimRequest, Outbox, Outcome, Settlement};
pub use publisher::Publisher;
pub use queue::{
    DeliveryOutcome, DeliverySettlement, DequeueReport, DequeueRequest, Enqueued, Queue,
    RecoverRequest,
};
pub use rate_limit::{RateDecision, RateLimiter};
pub use replay::{Replay, ReplayFrom, ReplayRequest};
pub use transaction::{Appender, TransactionalOutbox, UnitOfWork};
