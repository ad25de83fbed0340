use std::sync::Arc;

use crate::error::{ConfigError, Result};
use crate::id::{Entropy, WorkerId};
use crate::ports::{Clock, DeliveryHook, Queue};
use crate::report::StopReport;
use crate::signal::Shutdown;
use crate::time::SystemClock;

use super::engine::{Engine, Goal};
use super::{Consumer, WorkerConfig};

/// The loop that takes deliveries from a [`Queue`], runs them through a [`Consumer`] and settles
/// them: many at once, in batches, with heartbeats for everything it holds.
///
/// Any number of workers may share a queue. A worker does nothing until it is run.
///
/// ```no_run
/// # async fn example(queue: std::sync::Arc<dyn outbox_core::ports::Queue>,
/// #                  consumer: outbox_core::consume::Consumer) {
/// use outbox_core::{consume::{Worker, WorkerConfig}, signal::Shutdown};
///
/// let shutdown = Shutdown::new();
/// let worker = Worker::new(queue, consumer, WorkerConfig::default()).unwrap();
/// let report = worker.run(&shutdown).await.unwrap();
/// println!("handled {}", report.tally.done);
/// # }
/// ```
#[doc(alias = "TaskProcessingManager")]
#[doc(alias = "WorkerManager")]
pub struct Worker {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) consumer: Arc<Consumer>,
    pub(super) hooks: Vec<Arc<dyn DeliveryHook>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Entropy,
    pub(super) config: WorkerConfig,
}

impl Worker {
    /// A worker on the system's clock and entropy.
    ///
    /// # Errors
    /// [`crate::OutboxError::Config`] with every setting of the worker and its consumer that is out
    /// of its range.
    pub fn new(
        queue: Arc<dyn Queue>,
        consumer: impl Into<Arc<Consumer>>,
        config: WorkerConfig,
    ) -> Result<Self> {
        let consumer = consumer.into();
        let mut errors = ConfigError::default();
        config.check(&mut errors);
        consumer.config().check(consumer.is_guarded(), &mut errors);
        errors.into_result()?;
        Ok(Self {
            queue,
            consumer,
            hooks: Vec::new(),
            clock: Arc::new(SystemClock),
            entropy: Entropy::from_system(),
            config,
        })
    }

    /// Adds a listener to what the worker does.
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

    /// Works until `shutdown` is triggered, then stops gracefully: takes nothing new, gives back what
    /// is not being handled, and waits up to [`WorkerConfig::grace`] for what is.
    ///
    /// A queue that fails is asked again for ever, with growing pauses.
    ///
    /// # Errors
    /// Only what no waiting can mend: [`crate::OutboxError::Closed`], a schema or a configuration
    /// that does not fit.
    ///
    /// # Cancel safety
    /// Dropping the future equals a crash: handlers are dropped where they are, and what was taken
    /// comes back when its lease ends.
    pub async fn run(&self, shutdown: &Shutdown) -> Result<StopReport> {
        let owner = WorkerId::new(&self.entropy);
        Engine::new(self, owner, Goal::Forever).run(shutdown).await
    }

    /// Works until the queue holds nothing: nothing ready, nothing delayed, nothing held by another
    /// worker; or until `shutdown` is triggered.
    ///
    /// # Errors
    /// As [`Worker::run`].
    ///
    /// # Cancel safety
    /// As [`Worker::run`].
    pub async fn run_until_empty(&self, shutdown: &Shutdown) -> Result<StopReport> {
        let owner = WorkerId::new(&self.entropy);
        Engine::new(self, owner, Goal::Empty).run(shutdown).await
    }
}
