//! The conformance kit of both ports, in the style of the core's: named cases, a harness, and
//! capabilities as data.
//!
//! ```no_run
//! # use async_trait::async_trait;
//! # use outbox_core::error::BoxError;
//! use outbox_core::testing::Kit;
//! use outbox_dlq::testing::{DlqCapabilities, DlqHarness, DlqSetup, DlqStore, with_dlq};
//!
//! struct MyHarness;
//!
//! #[async_trait]
//! impl DlqHarness for MyHarness {
//!     fn capabilities(&self) -> DlqCapabilities {
//!         DlqCapabilities::default()
//!     }
//!
//!     async fn fresh(&self, setup: DlqSetup) -> Result<Box<dyn DlqStore>, BoxError> {
//!         # let _ = setup;
//!         // A new store, under a name that no other case has.
//!         # Err("no store".into())
//!     }
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     with_dlq(Kit::new("my-backend"), MyHarness).run()
//! }
//! ```

mod copies;
mod counted;
mod drain;
mod given;
mod harness;
mod heap;
mod listing;
mod moving;
mod order;
mod processor;
mod redrive;
mod refusals;
mod room;
mod scene;
mod table;

pub use harness::{DlqCapabilities, DlqHarness, DlqSetup, DlqStore};
pub use table::{dlq_cases, with_dlq};
