//! Transactional outbox and reliable task pipelines: nothing lost, nothing doubled.
//!
//! This crate only re-exports: the model, the ports and the orchestrators of [`outbox_core`], and
//! each backend behind a feature of its own.

pub use outbox_core::{
    HandlerError, OutboxError, PublishError, Result, consume, delivery, env, error, id, lease,
    memory, message, observe, policy, ports, produce, publish, relay, report, signal, status, time,
};

#[cfg(feature = "sqlite")]
pub use outbox_sqlite as sqlite;
