//! Several destinations for the same messages.

mod config;
mod lane;
mod publisher;
#[cfg(test)]
mod tests;

pub use config::{CompositeConfig, Destination, Strategy};
pub use publisher::CompositePublisher;
