use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::delivery::Quarantined;
use crate::error::BoxError;
use crate::id::MessageId;
use crate::ports::Queue;
use crate::status::Ordering;
use crate::time::Clock;

/// What a queue backend can do, as data; the kit holds it to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueCapabilities {
    /// The order in which a single consumer is given entries; [`Ordering::Commit`] by default.
    pub ordering: Ordering,
    /// Whether it tells when another's lease may end, and that nobody holds anything; true by default.
    pub tells_next_expiry: bool,
    /// Whether it signals, in this process, that a queue which was full has room again; true by
    /// default.
    pub signals_room: bool,
    /// Whether it counts how often an entry was taken over; true by default.
    pub counts_takeovers: bool,
    /// Whether the harness can damage a stored entry; true by default.
    pub corruption: bool,
}

impl Default for QueueCapabilities {
    fn default() -> Self {
        Self {
            ordering: Ordering::Commit,
            tells_next_expiry: true,
            signals_room: true,
            counts_takeovers: true,
            corruption: true,
        }
    }
}

/// What a fresh queue is to be made with.
#[derive(Clone, Debug)]
pub struct QueueSetup {
    /// The most unsettled entries.
    pub high_water: usize,
    /// How long an enqueued id is remembered.
    pub dedup_window: Duration,
    /// The clock that tells when a message is enqueued, and when its id is forgotten.
    pub clock: Arc<dyn Clock>,
}

/// Makes queues for the cases of [`Queue`].
#[async_trait]
pub trait QueueHarness: Send + Sync {
    /// What the backend can do.
    fn capabilities(&self) -> QueueCapabilities;

    /// Makes a new, empty queue that shares nothing with any other.
    ///
    /// # Errors
    /// Where the queue cannot be made; the case has failed.
    async fn fresh(&self, setup: QueueSetup) -> Result<Box<dyn QueueStore>, BoxError>;
}

/// One queue in its store; what is in it goes when this is dropped.
#[async_trait]
pub trait QueueStore: Send + Sync {
    /// Opens a handle on the queue. Each call opens another one that shares no memory with the
    /// earlier ones, as another process would; where all were dropped, this reopens the queue.
    ///
    /// # Errors
    /// Where the queue cannot be opened.
    async fn open(&self) -> Result<Arc<dyn Queue>, BoxError>;

    /// Damages the unsettled entry of the message with this id, so that it cannot be read.
    ///
    /// # Errors
    /// Where there is no such entry.
    async fn corrupt(&self, id: MessageId) -> Result<(), BoxError>;

    /// All that is in quarantine, oldest first.
    ///
    /// # Errors
    /// Where the store cannot be read.
    async fn quarantined(&self) -> Result<Vec<Quarantined>, BoxError>;
}
