use std::sync::Arc;

use async_trait::async_trait;
use outbox_core::ports::{Clock, DeliveryHook};
use outbox_core::report::{BatchReport, Fate, MessageReport, Stage};
use outbox_core::signal::Wake;
use outbox_core::time::SystemClock;

use crate::heap::{DlqHeap, Failure};
use crate::lately::Lately;
use crate::origin::{Origin, Subject};

/// Tells a [`DlqHeap`] what failed, as a hook of relays and workers.
///
/// A batch in which nothing fails and nothing had failed before costs the heap no round trip: a report
/// tells the number of the attempt, and what succeeds at its first one can be known to the heap only
/// where a failure was told after its message had been moved, and that was sent back since. The
/// recorder remembers the last 8,192 messages that failed, at least, and forgets such a count with the
/// success; of others the age decides ([`crate::DlqProcessorConfig::forget_after`]).
/// A heap that is down is logged, and neither stops nor repeats anything; what it misses is not counted.
///
/// [`crate::DlqProcessor::recorder`] makes one that wakes its processor.
#[derive(Clone)]
pub struct FailureRecorder {
    heap: Arc<dyn DlqHeap>,
    clock: Arc<dyn Clock>,
    lately: Arc<Lately>,
    /// Whom to wake, and from which attempt on.
    wake: Option<(Wake, u32)>,
}

impl FailureRecorder {
    /// A recorder on the system's clock that wakes nobody.
    #[must_use]
    pub fn new(heap: Arc<dyn DlqHeap>) -> Self {
        Self {
            heap,
            clock: Arc::new(SystemClock),
            lately: Arc::default(),
            wake: None,
        }
    }

    /// Replaces the clock, for tests.
    #[must_use]
    pub fn driven_by(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Gives `wake` when an attempt failed that was at least the `threshold`th.
    #[must_use]
    pub fn waking(mut self, wake: Wake, threshold: u32) -> Self {
        self.wake = Some((wake, threshold));
        self
    }

    fn failures(&self, report: &BatchReport) -> Vec<Failure> {
        let origin = origin(report);
        let at = self.clock.now();
        let failed = report.messages.iter();
        let failed = failed.filter(|message| message.fate == Fate::Retried);
        let failure = |message: &MessageReport| {
            let (kind, error) = message.error.clone().unwrap_or_default();
            Failure {
                subject: subject(&origin, message),
                at,
                kind,
                error,
            }
        };
        failed.map(failure).collect()
    }

    /// What had failed before, and is over now: delivered, or in quarantine.
    fn over(&self, report: &BatchReport) -> Vec<Subject> {
        let is_over = |message: &&MessageReport| {
            let over = match message.fate {
                Fate::Done | Fate::Duplicate | Fate::Dropped | Fate::Quarantined => true,
                Fate::Retried | Fate::Deferred | Fate::Lost => false,
            };
            over && (self.lately.take(message.id) || message.attempt > 1)
        };
        let origin = origin(report);
        let over = report.messages.iter().filter(is_over);
        over.map(|message| subject(&origin, message)).collect()
    }

    async fn record(&self, report: &BatchReport) -> outbox_core::Result<()> {
        let over = self.over(report);
        if !over.is_empty() {
            self.heap.record_successes(&over).await?;
        }
        let failures = self.failures(report);
        if failures.is_empty() {
            return Ok(());
        }
        self.lately
            .note(failures.iter().map(|failure| failure.subject.id));
        self.heap.record_failures(&failures).await?;
        if let Some((wake, threshold)) = &self.wake {
            let enough = |message: &MessageReport| {
                message.fate == Fate::Retried && message.attempt >= *threshold
            };
            if report.messages.iter().any(enough) {
                wake.notify();
            }
        }
        Ok(())
    }
}

#[async_trait]
impl DeliveryHook for FailureRecorder {
    async fn after_batch(&self, report: &BatchReport) {
        if let Err(error) = self.record(report).await {
            tracing::warn!(%error, "failures were not counted: the heap of dead letters failed");
        }
    }
}

fn origin(report: &BatchReport) -> Origin {
    match report.stage {
        Stage::Publish => Origin::Outbox,
        Stage::Handle => Origin::Queue(report.destination.clone()),
    }
}

fn subject(origin: &Origin, message: &MessageReport) -> Subject {
    Subject {
        origin: origin.clone(),
        id: message.id,
    }
}
