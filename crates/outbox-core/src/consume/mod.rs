//! The consuming side: a [`Worker`] takes deliveries from a queue and runs them through a
//! [`Consumer`], the user's handler with its resilience layers.

mod config;
mod consumer;
mod engine;
mod worker;

pub use config::{ConsumerConfig, Semantics, WorkerConfig};
pub use consumer::Consumer;
pub use worker::Worker;
