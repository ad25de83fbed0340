//! Sends all that are meant back, as room and the rate allow.

use outbox_core::error::Result;
use outbox_core::ports::Clock;
use outbox_core::signal::Shutdown;
use tokio::time::{sleep, sleep_until};

use crate::config::RedriveConfig;
use crate::origin::Origin;
use crate::pace::{Pace, Patience};
use crate::quarantine::{Quarantine, RedriveCursor, RedriveReport, RedriveRequest, Refusal};

/// How many refusals a summary tells; the others are only counted.
const TOLD: usize = 100;

/// What a redrive did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedriveSummary {
    /// How many were sent back.
    pub redriven: u64,
    /// How many were refused; they stay in quarantine.
    pub refused: u64,
    /// Why, of the first 100.
    pub refusals: Vec<Refusal>,
    /// Whether it ended because the shutdown was asked for.
    pub stopped: bool,
    /// The queues that it waited for to have room when it was stopped.
    pub full: Vec<Origin>,
}

/// A redrive on its way.
pub(crate) struct Redrive<'a> {
    pub(crate) quarantine: &'a dyn Quarantine,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) config: &'a RedriveConfig,
    pub(crate) shutdown: &'a Shutdown,
    /// What each of its requests is made from.
    pub(crate) request: RedriveRequest,
    pub(crate) pace: Pace,
    pub(crate) summary: RedriveSummary,
}

/// What waits for a queue to have room.
struct Waiting {
    origin: Origin,
    /// Where to go on.
    after: Option<RedriveCursor>,
}

impl Redrive<'_> {
    /// Goes through everything, and then again and again through what found its queue full.
    pub(crate) async fn run(mut self) -> Result<RedriveSummary> {
        let mut waiting = self.go_through(self.request.clone()).await?;
        for Waiting { origin, .. } in &waiting {
            tracing::warn!(%origin, "a queue is full, and its dead letters wait for room");
        }
        let mut patience = Patience::default();
        while !waiting.is_empty() && !self.summary.stopped && self.left() != Some(0) {
            let sent = self.summary.redriven;
            tokio::select! {
                () = self.shutdown.triggered() => self.summary.stopped = true,
                () = sleep(patience.next()) => waiting = self.go_on(waiting).await?,
            }
            if self.summary.redriven > sent {
                patience = Patience::default();
            }
        }
        if self.summary.stopped {
            let origins = waiting.into_iter().map(|waiting| waiting.origin);
            self.summary.full = origins.collect();
        }
        Ok(self.summary)
    }

    /// Goes on where a queue was full; what still waits.
    async fn go_on(&mut self, waiting: Vec<Waiting>) -> Result<Vec<Waiting>> {
        let mut still = Vec::new();
        for one in waiting {
            if self.summary.stopped {
                still.push(one);
                continue;
            }
            let mut request = self.request.clone();
            request.filter.origin = Some(one.origin);
            request.after = one.after;
            still.extend(self.go_through(request).await?);
        }
        Ok(still)
    }

    /// Sends back what a request means, step by step, and passes over what finds its queue full.
    async fn go_through(&mut self, mut request: RedriveRequest) -> Result<Vec<Waiting>> {
        let mut waiting = Vec::new();
        while self.left() != Some(0) {
            request.max = self.config.step(self.left());
            request.now = self.clock.now();
            let report = self.quarantine.redrive(&request).await?;
            self.add(&report);
            request.after = match report.full {
                None => report.next,
                Some(origin) => {
                    let behind = RedriveCursor::behind(origin.clone());
                    let after = report.next;
                    waiting.push(Waiting { origin, after });
                    request.filter.origin.is_none().then_some(behind)
                }
            };
            if request.after.is_none() {
                break;
            }
            self.keep_pace().await;
            if self.summary.stopped {
                break;
            }
        }
        Ok(waiting)
    }

    /// How many may still be sent back.
    fn left(&self) -> Option<u64> {
        let most = self.config.most?;
        Some(most.saturating_sub(self.summary.redriven))
    }

    fn add(&mut self, report: &RedriveReport) {
        let summary = &mut self.summary;
        summary.redriven += report.redriven.len() as u64;
        summary.refused += report.refused.len() as u64;
        let room = TOLD.saturating_sub(summary.refusals.len());
        let told = report.refused.iter().take(room).cloned();
        summary.refusals.extend(told);
    }

    /// Waits until so many may have been sent, or until it is asked to stop.
    async fn keep_pace(&mut self) {
        if let Some(due) = self.pace.due(self.summary.redriven) {
            tokio::select! {
                () = self.shutdown.triggered() => {}
                () = sleep_until(due) => {}
            }
        }
        self.summary.stopped = self.shutdown.is_triggered();
    }
}
