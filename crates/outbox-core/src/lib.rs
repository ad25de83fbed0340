//! Model, ports, policies and orchestrators of the transactional outbox. Links no driver.
#![cfg_attr(test, allow(clippy::print_stdout))]

pub mod consume;
pub mod delivery;
pub mod env;
pub mod error;
pub mod id;
pub mod lease;
pub mod memory;
pub mod message;
pub mod observe;
pub mod packed;
pub mod policy;
pub mod ports;
pub mod produce;
pub mod publish;
pub mod relay;
pub mod report;
pub mod signal;
pub mod status;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;

pub use error::{HandlerError, OutboxError, PublishError, Result};
