use crate::error::{BoxError, OutboxError};
use crate::id::MessageId;
use crate::message::NewMessage;
use crate::report::AppendReport;

/// One step of one saga: its identity, and the events that undo what earlier steps did.
///
/// ```
/// use outbox_core::message::NewMessage;
/// use outbox_core::produce::SagaStep;
///
/// let step = SagaStep::new("order-7", "pay")
///     .compensate_with(vec![NewMessage::new("stock", "release order 7")]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaStep {
    pub(super) saga: String,
    pub(super) name: String,
    pub(super) compensation: Vec<NewMessage>,
}

impl SagaStep {
    /// The step `name` of the saga with the id `saga`; a saga has each step once.
    #[doc(alias = "sagaID")]
    pub fn new(saga: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            saga: saga.into(),
            name: name.into(),
            compensation: Vec::new(),
        }
    }

    /// Sets the events that are appended where the step fails; none by default.
    #[must_use]
    #[doc(alias = "compensationEvents")]
    pub fn compensate_with(mut self, events: Vec<NewMessage>) -> Self {
        self.compensation = events;
        self
    }

    /// The idempotency key of the event that decides the step, whichever way.
    pub(super) fn key(&self) -> String {
        format!("saga:{}:{}:{}", self.saga.len(), self.saga, self.name)
    }
}

/// How a step went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// Its work and its result events were committed now.
    Done(AppendReport),
    /// An earlier run had committed them, with this event among them; this run changed nothing.
    DoneBefore(MessageId),
}

/// How a step went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// The step failed for good: its work was rolled back, and its compensation events were
    /// committed.
    #[error("the step failed and was compensated: {source}")]
    Compensated {
        /// Why it failed.
        source: BoxError,
        /// The compensation events.
        compensation: AppendReport,
    },
    /// An earlier run of the step had failed and was compensated, with this event; this run changed
    /// nothing.
    #[error("the step was compensated before, by event {0}")]
    CompensatedBefore(MessageId),
    /// The step failed for good and was rolled back, but it is not known whether its compensation
    /// events were committed. Run the step again.
    #[error("the step failed ({source}), and its compensation is not known to be stored: {store}")]
    Uncompensated {
        /// Why the step failed.
        source: BoxError,
        /// Why its compensation events were not stored.
        store: OutboxError,
    },
    /// Nothing was done, or the answer to the commit was lost. Run the step again.
    #[error("the step is to be run again: {0}")]
    Retry(#[source] BoxError),
}

impl SagaError {
    /// Whether the step is to be run again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Uncompensated { .. } | Self::Retry(_))
    }
}
