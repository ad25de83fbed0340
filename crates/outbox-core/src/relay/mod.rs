//! The relay: moves messages from an outbox to a publisher.

mod config;
mod engine;
mod judge;
mod keys;
mod lane;
mod rooms;
mod timers;
mod unsettled;

use std::sync::Arc;

use async_trait::async_trait;

pub use config::RelayConfig;

use crate::error::Result;
use crate::id::{Entropy, WorkerId};
use crate::ports::{Clock, DeliveryHook, Flush, FlushReport, Outbox, Publisher};
use crate::report::StopReport;
use crate::signal::Shutdown;
use crate::time::SystemClock;
use engine::{Engine, Goal};

/// Moves messages from an [`Outbox`] to a [`Publisher`]: claims, publishes and settles in batches
/// that overlap, keeps each ordering key's order, retries what fails, and idles without queries.
///
/// Any number of relays may run on one outbox. A relay does nothing until [`Relay::run`] or
/// [`Flush::flush`] is awaited; both may be called again after they returned.
///
/// ```no_run
/// # async fn example(outbox: std::sync::Arc<dyn outbox_core::ports::Outbox>,
/// #                  publisher: std::sync::Arc<dyn outbox_core::ports::Publisher>) {
/// use outbox_core::{relay::{Relay, RelayConfig}, signal::Shutdown};
///
/// let shutdown = Shutdown::new();
/// let relay = Relay::new(outbox, publisher, RelayConfig::default()).unwrap();
/// let report = relay.run(&shutdown).await.unwrap();
/// println!("published {}", report.tally.done);
/// # }
/// ```
#[doc(alias = "EventRelayWorker")]
#[doc(alias = "OutboxProcessor")]
pub struct Relay {
    outbox: Arc<dyn Outbox>,
    publisher: Arc<dyn Publisher>,
    hooks: Vec<Arc<dyn DeliveryHook>>,
    clock: Arc<dyn Clock>,
    entropy: Entropy,
    config: RelayConfig,
}

impl Relay {
    /// A relay on the system's clock and entropy.
    ///
    /// # Errors
    /// [`crate::OutboxError::Config`] with every setting that is out of its range.
    pub fn new(
        outbox: Arc<dyn Outbox>,
        publisher: Arc<dyn Publisher>,
        config: RelayConfig,
    ) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            outbox,
            publisher,
            hooks: Vec::new(),
            clock: Arc::new(SystemClock),
            entropy: Entropy::from_system(),
            config,
        })
    }

    /// Adds a listener to what the relay does.
    #[must_use]
    pub fn hook(mut self, hook: Arc<dyn DeliveryHook>) -> Self {
        self.hooks.push(hook);
        self
    }

    /// Replaces the clock and the source of jitter and identities, for tests and simulations.
    #[must_use]
    pub fn driven_by(mut self, clock: Arc<dyn Clock>, entropy: Entropy) -> Self {
        self.clock = clock;
        self.entropy = entropy;
        self
    }

    /// Relays until `shutdown` is triggered, then stops gracefully: claims nothing new, gives back
    /// what was not sent, and waits up to [`RelayConfig::grace`] for what is on its way.
    ///
    /// Stores and destinations that fail are tried again for ever, with growing pauses.
    ///
    /// # Errors
    /// Only what no waiting can mend: [`crate::OutboxError::Closed`], a schema or a configuration
    /// that does not fit.
    ///
    /// # Cancel safety
    /// Dropping the future equals a crash: what was claimed comes back when its lease ends, and
    /// what was published but not settled is published again.
    #[doc(alias = "Start")]
    pub async fn run(&self, shutdown: &Shutdown) -> Result<StopReport> {
        let owner = WorkerId::new(&self.entropy);
        Engine::new(self, owner, Goal::Forever)
            .run(shutdown)
            .await
            .map(|(report, _)| report)
    }
}

#[async_trait]
impl Flush for Relay {
    /// Relays until the outbox holds nothing unsent, or until nothing has moved for
    /// [`RelayConfig::flush_patience`].
    async fn flush(&self) -> Result<FlushReport> {
        let owner = WorkerId::new(&self.entropy);
        let never = Shutdown::new();
        let (report, unsent) = Engine::new(self, owner, Goal::Empty).run(&never).await?;
        Ok(FlushReport {
            tally: report.tally,
            unsent,
        })
    }
}
