//! Settings from the environment: `OUTBOX_*` variables, read at once, with every problem told.

mod apply;
mod config;
mod nearest;
mod parse;
mod secret;
#[cfg(test)]
mod tests;

pub use config::{EnvConfig, PublisherType, VARIABLES, Variable};
pub use secret::Secret;
