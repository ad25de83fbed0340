//! The consuming side: a [`Worker`] takes deliveries from a queue and runs them through a
//! [`Consumer`], the user's handler with its resilience layers.

mod config;
mod consumer;
mod decided;
mod engine;
#[cfg(test)]
mod fakes;
mod router;
#[cfg(feature = "tower")]
mod service;
mod suspect;
mod worker;

pub use config::{ConsumerConfig, Semantics, WorkerConfig};
pub use consumer::Consumer;
pub use router::{KindRouter, UnknownKind};
#[cfg(feature = "tower")]
pub use service::ServiceHandler;
pub use worker::Worker;
