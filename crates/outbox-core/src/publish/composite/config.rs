use std::sync::Arc;
use std::time::Duration;

use crate::error::ConfigError;
use crate::policy::{Backoff, BreakerConfig, RetryPolicy};
use crate::ports::Publisher;

/// Which destinations must have a message before it counts as published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Every one. A message that some of them lack is retried for those alone.
    #[default]
    All,
    /// At least one. Each is tried once; those that fail meanwhile miss the message.
    Any,
    /// The first one, the primary. The others are sent what the primary has, as well as it goes
    /// within the call's budget; what they do not take in that time they miss.
    Primary,
}

/// One of the places that a [`super::CompositePublisher`] publishes to.
#[derive(Clone)]
pub struct Destination {
    /// The name that deliveries are recorded under: never changed while messages are under way,
    /// never reused for another place, not empty, unique in its composite.
    pub name: String,
    /// What sends there.
    pub publisher: Arc<dyn Publisher>,
}

impl Destination {
    /// A destination under the publisher's own name.
    #[must_use]
    pub fn new(publisher: Arc<dyn Publisher>) -> Self {
        Self {
            name: publisher.name().to_owned(),
            publisher,
        }
    }

    /// Gives the destination another name than its publisher's.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }
}

/// How a [`super::CompositePublisher`] behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompositeConfig {
    /// Which destinations must have a message; all of them by default.
    pub strategy: Strategy,
    /// The longest time that one call spends on destinations whose failure is forgiven; 1 s by
    /// default, more than nothing. Required ones take the time that the caller gives them.
    pub budget: Duration,
    /// How often, within the budget, a secondary destination is tried; 3 attempts by default, with
    /// a backoff of 50 ms up to 500 ms.
    pub retry: RetryPolicy,
    /// The breaker of each destination whose failure is forgiven: while it is open, the destination
    /// misses messages without holding up the others.
    pub breaker: BreakerConfig,
    /// How long a delivery is remembered; 7 days by default. A message that stays partly delivered
    /// for longer is sent to all of its destinations again, so choose more than the longest outage
    /// that is to be survived without duplicates.
    pub retention: Duration,
}

impl Default for CompositeConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::All,
            budget: Duration::from_secs(1),
            retry: RetryPolicy {
                max_attempts: 3,
                backoff: Backoff {
                    base: Duration::from_millis(50),
                    cap: Duration::from_millis(500),
                },
            },
            breaker: BreakerConfig::default(),
            retention: Duration::from_hours(7 * 24),
        }
    }
}

/// Checks that the settings are in their ranges, and that destinations can be told apart.
pub(super) fn check(
    destinations: &[Destination],
    config: &CompositeConfig,
) -> Result<(), ConfigError> {
    let mut problems = ConfigError::default();
    if destinations.is_empty() {
        problems.add("destinations", "there are none; at least one is needed");
    }
    for (place, destination) in destinations.iter().enumerate() {
        let name = destination.name.as_str();
        if name.is_empty() {
            let problem = format!("number {} has no name", place + 1);
            problems.add("destinations", problem);
        }
        let mut earlier = destinations.iter().take(place);
        if earlier.any(|earlier| earlier.name == name) {
            problems.add("destinations", format!("`{name}` is named twice"));
        }
    }
    if config.retry.max_attempts < 1 {
        problems.add("retry.max_attempts", "must be at least 1");
    }
    if config.breaker.max_failures < 1 {
        problems.add("breaker.max_failures", "must be at least 1");
    }
    if config.budget.is_zero() {
        problems.add("budget", "must be more than nothing");
    }
    problems.into_result()
}
