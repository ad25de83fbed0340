//! The conformance kit: what every backend of a port has to pass, as named cases.
//!
//! Each sentence of a port's `# Contract` is a [`Case`]: one behaviour, with the section of the
//! contract that it proves. The author of a backend writes a *harness*, which makes fresh isolated
//! stores and opens handles on them, and declares in its *capabilities* what the backend can do. A
//! case that does not apply shows as ignored, never as passed.
//!
//! Time is an argument of every port, so cases make up their moments and do not wait for them. Only
//! the cases of a dequeue that waits spend real time, under a second each; they allow a wake-up ten
//! seconds.
//!
//! # Wiring a backend
//! Declare a test binary without the standard harness:
//!
//! ```toml
//! [[test]]
//! name = "kit"
//! harness = false
//!
//! [dev-dependencies]
//! outbox-core = { version = "0.1", features = ["testing"] }
//! ```
//!
//! and run the kit in it, with as many harnesses as the backend has ports:
//!
//! ```no_run
//! # use async_trait::async_trait;
//! # use outbox_core::error::BoxError;
//! use outbox_core::testing::{Kit, OutboxCapabilities, OutboxHarness, OutboxSetup, OutboxStore};
//!
//! struct MyHarness;
//!
//! #[async_trait]
//! impl OutboxHarness for MyHarness {
//!     fn capabilities(&self) -> OutboxCapabilities {
//!         OutboxCapabilities::default()
//!     }
//!
//!     async fn fresh(&self, setup: OutboxSetup) -> Result<Box<dyn OutboxStore>, BoxError> {
//!         # let _ = setup;
//!         // A new database, under a name that no other case has.
//!         # Err("no store".into())
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     Kit::new("my-backend").outbox(MyHarness).run()
//! }
//! ```
//!
//! The binary understands what test binaries understand: a filter, `--list`, `--exact`,
//! `--test-threads`.

mod cut;
mod dedup;
mod kit;
mod outbox;
mod queue;
mod rate_limit;
mod world;

pub use cut::cut;
pub use dedup::{DedupCapabilities, DedupHarness, DedupStore, dedup_cases};
pub use kit::{Case, CaseFuture, CaseResult, Kit, Requirement};
pub use outbox::{
    LeaseScope, OpenTransaction, OutboxCapabilities, OutboxHarness, OutboxSetup, OutboxStore,
    TransactionOn, outbox_cases,
};
pub use queue::{QueueCapabilities, QueueHarness, QueueSetup, QueueStore, queue_cases};
pub use rate_limit::{
    LimiterSetup, RateLimitCapabilities, RateLimitHarness, RateLimitStore, rate_limit_cases,
};
pub use world::{
    Ending, FaultRates, Guard, Number, Outcome, Scenario, Step, Sweep, Violation, World, sweep,
};
