use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::error::BoxError;
use outbox_core::id::Entropy;
use outbox_core::message::Message;
use outbox_core::ports::{Outbox, Queue};
use outbox_core::time::Clock;

use crate::{DlqHeap, LetterId, Quarantine};

/// What a backend of dead letters can do, as data; the kit holds it to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DlqCapabilities {
    /// Whether it takes messages out of an outbox; true by default.
    pub outbox: bool,
    /// Whether it takes deliveries out of a queue; true by default.
    pub queue: bool,
    /// Whether the harness can damage what is stored; true by default.
    pub corruption: bool,
    /// Whether [`DlqSetup::high_water`] takes, and a redrive respects it; false by default.
    pub high_water: bool,
}

impl Default for DlqCapabilities {
    fn default() -> Self {
        Self {
            outbox: true,
            queue: true,
            corruption: true,
            high_water: false,
        }
    }
}

/// What a fresh store is to be made with.
#[derive(Clone, Debug)]
pub struct DlqSetup {
    /// The clock that tells when messages are appended and enqueued.
    pub clock: Arc<dyn Clock>,
    /// What ids and claims are made from.
    pub entropy: Entropy,
    /// The high-water mark of the queue; the queue's own default where `None`.
    pub high_water: Option<usize>,
}

/// Makes stores for the cases of [`DlqHeap`] and [`Quarantine`].
#[async_trait]
pub trait DlqHarness: Send + Sync {
    /// What the backend can do.
    fn capabilities(&self) -> DlqCapabilities;

    /// Makes a new, empty store that shares nothing with any other.
    ///
    /// # Errors
    /// Where the store cannot be made; the case has failed.
    async fn fresh(&self, setup: DlqSetup) -> Result<Box<dyn DlqStore>, BoxError>;
}

/// One store with an outbox, a queue, or both; what is in it goes when this is dropped.
///
/// Each handle shares no memory with the earlier ones, as another process' would.
#[async_trait]
pub trait DlqStore: Send + Sync {
    /// Opens a handle on the heap.
    ///
    /// # Errors
    /// Where it cannot be opened.
    async fn heap(&self) -> Result<Arc<dyn DlqHeap>, BoxError>;

    /// Opens a handle on the quarantine.
    ///
    /// # Errors
    /// Where it cannot be opened.
    async fn quarantine(&self) -> Result<Arc<dyn Quarantine>, BoxError>;

    /// Opens a handle on the outbox.
    ///
    /// # Errors
    /// Where it cannot be opened, or the backend has none.
    async fn outbox(&self) -> Result<Arc<dyn Outbox>, BoxError>;

    /// Opens a handle on the queue, which is named `kit` and remembers ids for a day.
    ///
    /// # Errors
    /// Where it cannot be opened, or the backend has none.
    async fn queue(&self) -> Result<Arc<dyn Queue>, BoxError>;

    /// Damages an undelivered message, in the outbox or the queue, so that it cannot be read.
    ///
    /// # Errors
    /// Where there is no such message.
    async fn corrupt(&self, message: &Message) -> Result<(), BoxError>;

    /// Damages the record of a dead letter, so that its message cannot be read.
    ///
    /// # Errors
    /// Where there is no such dead letter.
    async fn corrupt_letter(&self, id: LetterId) -> Result<(), BoxError>;
}
