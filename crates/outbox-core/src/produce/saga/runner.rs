use std::sync::Arc;

use tracing::Instrument;

use super::step::{SagaError, SagaStep, StepOutcome};
use crate::error::{BoxError, HandlerError};
use crate::id::{Entropy, MessageId};
use crate::message::{Headers, NewMessage};
use crate::observe::names;
use crate::ports::{Appender, Clock, UnitOfWork};
use crate::produce::unit::{WorkError, prepare, roll_back};
use crate::report::AppendReport;
use crate::time::SystemClock;

/// Which way a step was decided.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Decision {
    Done,
    Compensated,
}

/// What committing one way came to.
enum Verdict {
    /// It was committed now.
    Now(AppendReport),
    /// The step had been decided before, by this event; nothing was changed.
    Before(MessageId),
}

/// The events of one way, and the place of the one that decides the step.
struct Events {
    messages: Vec<NewMessage>,
    deciding: Option<usize>,
}

/// Runs steps of sagas: business work and its result events in one commit; where the work fails,
/// rollback, and compensation events in a transaction of their own.
///
/// Every event carries the saga's id as its correlation id. Repeating a step is harmless: the first
/// event of either way that brings neither an id nor an idempotency key gets both from the saga,
/// the same key on both ways, so that a step is decided once, by whichever way commits first, and a
/// later run of it is rolled back, its business work included. A way without such an event is not
/// protected. A decision is known for as long as the outbox remembers idempotency keys.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use outbox_core::HandlerError;
/// use outbox_core::memory::{MemoryOutbox, MemoryTransaction};
/// use outbox_core::message::NewMessage;
/// use outbox_core::produce::{Saga, SagaStep, StepOutcome};
/// use std::sync::Arc;
///
/// let outbox = Arc::new(MemoryOutbox::default());
/// let saga = Saga::new(outbox.clone(), outbox);
/// let step = SagaStep::new("order-7", "pay")
///     .compensate_with(vec![NewMessage::new("stock", "release order 7")]);
/// let work = async |_tx: &mut MemoryTransaction| {
///     // The business rows are written through `_tx`.
///     Ok::<_, HandlerError>(vec![NewMessage::new("orders", "order 7 paid")])
/// };
/// assert!(matches!(saga.execute(&step, work).await, Ok(StepOutcome::Done(_))));
/// assert!(matches!(saga.execute(&step, work).await, Ok(StepOutcome::DoneBefore(_))));
/// # });
/// ```
#[doc(alias = "OutboxSagaManager")]
pub struct Saga<U: UnitOfWork> {
    unit: Arc<U>,
    appender: Arc<dyn Appender<U::Tx>>,
    clock: Arc<dyn Clock>,
    entropy: Entropy,
}

impl<U: UnitOfWork> Saga<U> {
    /// Runs steps in transactions of `unit`, their events appended by `appender`, on the system's
    /// clock and entropy.
    #[must_use]
    #[doc(alias = "NewOutboxSagaManager")]
    pub fn new(unit: Arc<U>, appender: Arc<dyn Appender<U::Tx>>) -> Self {
        Self {
            unit,
            appender,
            clock: Arc::new(SystemClock),
            entropy: Entropy::from_system(),
        }
    }

    /// Replaces the clock and the source of ids, for tests and simulations.
    #[must_use]
    pub fn driven_by(mut self, clock: Arc<dyn Clock>, entropy: Entropy) -> Self {
        self.clock = clock;
        self.entropy = entropy;
        self
    }

    /// Runs `step`: does `work`, which answers the result events.
    ///
    /// Work that answers [`HandlerError::Retry`] is rolled back and not compensated: the step is to
    /// be run again. [`HandlerError::Reject`] fails the step for good.
    ///
    /// # Errors
    /// [`SagaError`] where the step was not done; it says whether to run it again.
    ///
    /// # Cancel safety
    /// Equals a crash: the work was committed or not, the compensation events were or were not;
    /// running the step again finds out and finishes it.
    #[doc(alias = "ExecuteSagaStep")]
    #[doc(alias = "resultEvents")]
    pub async fn execute<W>(&self, step: &SagaStep, work: W) -> Result<StepOutcome, SagaError>
    where
        W: AsyncFnOnce(&mut U::Tx) -> Result<Vec<NewMessage>, HandlerError>,
    {
        let (saga, name) = (step.saga.as_str(), step.name.as_str());
        let span = tracing::debug_span!(names::SPAN_SAGA_STEP, saga, step = name);
        self.run(step, work).instrument(span).await
    }

    async fn run<W>(&self, step: &SagaStep, work: W) -> Result<StepOutcome, SagaError>
    where
        W: AsyncFnOnce(&mut U::Tx) -> Result<Vec<NewMessage>, HandlerError>,
    {
        let done = async |tx: &mut U::Tx| {
            let events = work(tx).await?;
            Ok(self.stamp(step, events, Decision::Done))
        };
        let failure = match self.decide(done).await {
            Ok(Verdict::Now(report)) => return Ok(StepOutcome::Done(report)),
            Ok(Verdict::Before(event)) => return before(event),
            Err(WorkError::Work(HandlerError::Reject(source))) => source,
            Err(WorkError::Work(error)) => return Err(SagaError::Retry(error.into())),
            Err(WorkError::Store(error)) if error.is_transient() => {
                return Err(SagaError::Retry(error.into()));
            }
            Err(WorkError::Store(error)) => error.into(),
        };
        self.compensate(step, failure).await
    }

    async fn compensate(
        &self,
        step: &SagaStep,
        source: BoxError,
    ) -> Result<StepOutcome, SagaError> {
        let events = self.stamp(step, step.compensation.clone(), Decision::Compensated);
        if events.messages.is_empty() {
            let compensation = AppendReport::default();
            return Err(SagaError::Compensated {
                source,
                compensation,
            });
        }
        match self.decide(async |_: &mut U::Tx| Ok(events)).await {
            Ok(Verdict::Now(compensation)) => Err(SagaError::Compensated {
                source,
                compensation,
            }),
            Ok(Verdict::Before(event)) => before(event),
            Err(WorkError::Work(error)) => Err(SagaError::Retry(error.into())),
            Err(WorkError::Store(store)) => Err(SagaError::Uncompensated { source, store }),
        }
    }

    /// Does `work` and commits it with its events; rolls it back where the step was decided before.
    async fn decide<W>(&self, work: W) -> Result<Verdict, WorkError<HandlerError>>
    where
        W: AsyncFnOnce(&mut U::Tx) -> Result<Events, HandlerError>,
    {
        let mut deciding = None;
        let work = async |tx: &mut U::Tx| {
            let events = work(tx).await?;
            deciding = events.deciding;
            Ok(events.messages)
        };
        let unit = self.unit.as_ref();
        let (open, report) = prepare(unit, self.appender.as_ref(), work).await?;
        let decided = deciding.and_then(|place| report.messages.get(place));
        if let Some(event) = decided.filter(|event| event.duplicate) {
            roll_back(unit, open).await;
            return Ok(Verdict::Before(event.id));
        }
        unit.commit(open).await?;
        Ok(Verdict::Now(report))
    }

    /// Makes `messages` the saga's own, and one of them the mark of `decision`.
    fn stamp(&self, step: &SagaStep, messages: Vec<NewMessage>, decision: Decision) -> Events {
        let mut messages = messages;
        for message in &mut messages {
            message
                .headers
                .set(Headers::CORRELATION_ID, step.saga.as_str());
        }
        let free = |message: &NewMessage| message.id.is_none() && message.idempotency_key.is_none();
        let deciding = messages.iter().position(free);
        if let Some(message) = deciding.and_then(|place| messages.get_mut(place)) {
            message.id = Some(self.mark(decision));
            message.idempotency_key = Some(step.key());
        }
        Events { messages, deciding }
    }

    /// A new id whose last bit, else random, tells the decision: all that an outbox remembers of an
    /// idempotency key is the id of its message.
    fn mark(&self, decision: Decision) -> MessageId {
        let mut bytes = *MessageId::new(self.clock.now(), &self.entropy).as_bytes();
        bytes[15] = match decision {
            Decision::Done => bytes[15] & !1,
            Decision::Compensated => bytes[15] | 1,
        };
        MessageId::from_bytes(bytes)
    }
}

/// Reads an earlier decision from the id of its event.
fn before(event: MessageId) -> Result<StepOutcome, SagaError> {
    if event.as_bytes()[15] & 1 == 0 {
        Ok(StepOutcome::DoneBefore(event))
    } else {
        Err(SagaError::CompensatedBefore(event))
    }
}
