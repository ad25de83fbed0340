//! The producing side: a [`Producer`] persists tasks and flushes them, [`execute_with_outbox`] ties
//! business work and its messages into one commit, and a [`Saga`] runs steps that are undone by
//! events.

#[cfg(test)]
mod fakes;
mod producer;
mod saga;
mod unit;

pub use producer::{PersistError, Producer, ProducerConfig, ProducerReport};
pub use saga::{Saga, SagaError, SagaStep, StepOutcome};
pub use unit::{WorkError, execute_with_outbox};
