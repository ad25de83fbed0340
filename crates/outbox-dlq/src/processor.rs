use std::sync::Arc;
use std::time::Duration;

use outbox_core::OutboxError;
use outbox_core::error::Result;
use outbox_core::ports::Clock;
use outbox_core::signal::{Shutdown, Wake};
use outbox_core::time::{SystemClock, Timestamp};

use crate::config::DlqProcessorConfig;
use crate::heap::{DlqEntry, DlqHeap, DrainRequest};
use crate::quarantine::{Move, Quarantine};
use crate::recorder::FailureRecorder;

/// The most batches that one pass moves before it looks whether it is to stop.
const BATCHES: usize = 64;
/// The longest pause after a store has failed.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// Takes from a [`DlqHeap`] what failed too often, and puts it into [`Quarantine`].
///
/// What it has taken stays claimed in the heap until its quarantine is confirmed, so that a crash at
/// any step loses neither the decision nor the message. Any number of processors may share a heap. One
/// run is one future: it wakes by timer, and at once where its [`DlqProcessor::recorder`] sees the
/// threshold reached.
///
/// ```no_run
/// # async fn example(
/// #     heap: std::sync::Arc<dyn outbox_dlq::DlqHeap>,
/// #     quarantine: std::sync::Arc<dyn outbox_dlq::Quarantine>,
/// #     relay: outbox_core::relay::Relay,
/// # ) -> outbox_core::Result<()> {
/// use outbox_core::signal::Shutdown;
/// use outbox_dlq::{DlqProcessor, DlqProcessorConfig};
/// use std::sync::Arc;
///
/// let processor = DlqProcessor::new(heap, quarantine, DlqProcessorConfig::default())?;
/// let relay = relay.hook(Arc::new(processor.recorder()));
/// let shutdown = Shutdown::new();
/// let (relayed, moved) = tokio::join!(relay.run(&shutdown), processor.run(&shutdown));
/// println!("published {}, quarantined {}", relayed?.tally.done, moved?.quarantined);
/// # Ok(()) }
/// ```
pub struct DlqProcessor {
    heap: Arc<dyn DlqHeap>,
    quarantine: Arc<dyn Quarantine>,
    clock: Arc<dyn Clock>,
    wake: Wake,
    config: DlqProcessorConfig,
}

/// What a processor did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DlqReport {
    /// Looks at the heap.
    pub passes: u64,
    /// Messages that were put into quarantine.
    pub quarantined: u64,
    /// Counts that were dropped because their message had gone another way.
    pub gone: u64,
    /// Messages that were left alone for now, because somebody was delivering them.
    pub in_flight: u64,
    /// Counts that were forgotten by age.
    pub forgotten: u64,
    /// Passes that a store's failure ended; what they had taken comes back.
    pub failed: u64,
}

impl DlqReport {
    fn add(&mut self, other: Self) {
        self.passes += other.passes;
        self.quarantined += other.quarantined;
        self.gone += other.gone;
        self.in_flight += other.in_flight;
        self.forgotten += other.forgotten;
        self.failed += other.failed;
    }
}

impl DlqProcessor {
    /// A processor on the system's clock.
    ///
    /// # Errors
    /// [`OutboxError::Config`] with every setting that is out of its range.
    pub fn new(
        heap: Arc<dyn DlqHeap>,
        quarantine: Arc<dyn Quarantine>,
        config: DlqProcessorConfig,
    ) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            heap,
            quarantine,
            clock: Arc::new(SystemClock),
            wake: Wake::new(),
            config,
        })
    }

    /// Replaces the clock, for tests and simulations.
    #[must_use]
    pub fn driven_by(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// A hook for relays and workers that counts into this processor's heap and wakes it when the
    /// threshold is reached.
    #[must_use]
    pub fn recorder(&self) -> FailureRecorder {
        FailureRecorder::new(Arc::clone(&self.heap))
            .driven_by(Arc::clone(&self.clock))
            .waking(self.wake.clone(), self.config.threshold)
    }

    /// The signal that makes a run look at once.
    #[must_use]
    pub fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Moves what fails too often until `shutdown` is triggered; then finishes the batch that it is at.
    ///
    /// Stores that fail are tried again for ever, with growing pauses.
    ///
    /// # Errors
    /// Only what no waiting can mend: [`OutboxError::Closed`], a schema or a configuration that does not
    /// fit.
    ///
    /// # Cancel safety
    /// Dropping the future equals a crash: what was drained and not confirmed comes back when its claim
    /// is over.
    pub async fn run(&self, shutdown: &Shutdown) -> Result<DlqReport> {
        let mut report = DlqReport::default();
        let mut listener = self.wake.listen();
        let mut rest = self.config.in_flight_pause;
        while !shutdown.is_triggered() {
            listener.mark_seen();
            let mut pass = DlqReport::default();
            let pause = match self.pass(&mut pass, shutdown).await {
                Ok(more) => {
                    rest = self.config.in_flight_pause;
                    self.pause_after(&pass, more)
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, ?rest, "dead letters wait: a store failed");
                    pass.failed += 1;
                    let pause = rest;
                    rest = (rest * 2).min(LONGEST_REST);
                    pause
                }
            };
            report.add(pass);
            // Whatever ends the pause means the same: look again. A failed store is left in peace.
            tokio::select! {
                () = shutdown.triggered() => {}
                () = tokio::time::sleep(pause) => {}
                () = listener.notified(), if pass.failed == 0 => {}
            }
        }
        Ok(report)
    }

    /// Moves what fails too often now, up to 64 batches of it.
    ///
    /// # Errors
    /// As the ports'; what was drained by then comes back.
    ///
    /// # Cancel safety
    /// As [`DlqProcessor::run`].
    pub async fn run_once(&self) -> Result<DlqReport> {
        let mut report = DlqReport::default();
        self.pass(&mut report, &Shutdown::new()).await?;
        Ok(report)
    }

    fn pause_after(&self, pass: &DlqReport, more: bool) -> Duration {
        if more && pass.quarantined + pass.gone > 0 {
            return Duration::ZERO;
        }
        if pass.in_flight > 0 {
            return self.config.in_flight_pause.min(self.config.interval);
        }
        self.config.interval
    }

    /// Moves up to 64 batches; whether more may wait behind them.
    async fn pass(&self, report: &mut DlqReport, shutdown: &Shutdown) -> Result<bool> {
        report.passes += 1;
        let (mut untouched, mut more) = (Vec::new(), true);
        for _ in 0..BATCHES {
            let drained = self.heap.drain_exceeded(&self.request()).await?;
            let last = drained.len() < self.config.batch;
            untouched.extend(self.move_batch(drained, report).await?);
            if last || shutdown.is_triggered() {
                more = false;
                break;
            }
        }
        // Only now, so that this pass does not meet them again.
        if !untouched.is_empty() {
            self.heap.release(&untouched).await?;
        }
        let now = self.clock.now();
        let before = now - self.config.forget_after;
        report.forgotten += self.heap.purge(before, self.config.batch, now).await?;
        Ok(more)
    }

    fn request(&self) -> DrainRequest {
        let now = self.clock.now();
        DrainRequest {
            threshold: self.config.threshold,
            failing_since: self.config.max_age.map(|age| now - age),
            max: self.config.batch,
            lease: self.config.lease,
            now,
        }
    }

    /// Moves what was drained, and confirms; answers what was being delivered.
    async fn move_batch(
        &self,
        drained: Vec<DlqEntry>,
        report: &mut DlqReport,
    ) -> Result<Vec<DlqEntry>> {
        if drained.is_empty() {
            return Ok(Vec::new());
        }
        let now: Timestamp = self.clock.now();
        let moves = self.quarantine.quarantine(&drained, now).await?;
        let (mut over, mut untouched) = (Vec::with_capacity(drained.len()), Vec::new());
        for (entry, outcome) in drained.into_iter().zip(moves) {
            match outcome {
                Move::Moved => report.quarantined += 1,
                Move::Gone => report.gone += 1,
                Move::InFlight => {
                    report.in_flight += 1;
                    untouched.push(entry);
                    continue;
                }
            }
            over.push(entry);
        }
        self.heap.confirm(&over).await?;
        Ok(untouched)
    }
}

/// Whether no waiting can mend it.
fn is_final(error: &OutboxError) -> bool {
    matches!(
        error,
        OutboxError::Closed | OutboxError::Schema { .. } | OutboxError::Config(_)
    )
}
