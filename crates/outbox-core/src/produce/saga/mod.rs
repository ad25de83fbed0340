//! Steps of sagas: done with their events, or undone by them.

mod runner;
mod step;
#[cfg(test)]
mod tests;

pub use runner::Saga;
pub use step::{SagaError, SagaStep, StepOutcome};
