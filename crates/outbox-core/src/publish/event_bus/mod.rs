//! Events for subscribers of the same process.

mod bus;
mod subscriber;
#[cfg(test)]
mod tests;

pub use bus::{EventBus, EventBusConfig, NobodyListens, Unheard};
pub use subscriber::{Selector, SubscriberError, Subscription};
