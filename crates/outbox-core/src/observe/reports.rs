use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};

use crate::ports::DeliveryHook;
use crate::report::BatchReport;

/// How many reports wait for slow hooks before new ones are dropped.
const WAITING_REPORTS: usize = 256;

/// Tells hooks what happened, one report at a time, without ever holding up the work.
#[derive(Default)]
pub(crate) struct ReportDesk {
    waiting: VecDeque<BatchReport>,
    telling: bool,
}

impl ReportDesk {
    /// Queues a report; where hooks are so slow that too many wait, it is dropped and logged.
    pub(crate) fn queue(&mut self, report: BatchReport) {
        if self.waiting.len() < WAITING_REPORTS {
            self.waiting.push_back(report);
        } else {
            tracing::warn!(
                messages = report.messages.len(),
                "hooks are too slow: report dropped"
            );
        }
    }

    /// The next report to tell, where none is being told.
    pub(crate) fn next(&mut self) -> Option<BatchReport> {
        if self.telling {
            return None;
        }
        let report = self.waiting.pop_front();
        self.telling = report.is_some();
        report
    }

    /// The last report was told.
    pub(crate) fn told(&mut self) {
        self.telling = false;
    }

    /// Whether every report was told.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.telling
    }
}

/// Tells `report` to all hooks at once; slow and panicking ones are logged and left behind.
pub(crate) fn tell(
    hooks: &[Arc<dyn DeliveryHook>],
    report: BatchReport,
    limit: Duration,
) -> BoxFuture<'_, ()> {
    async move {
        let calls = hooks.iter().map(|hook| {
            let call = AssertUnwindSafe(hook.after_batch(&report)).catch_unwind();
            tokio::time::timeout(limit, call)
        });
        for outcome in join_all(calls).await {
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(_)) => tracing::error!("a delivery hook panicked"),
                Err(_) => tracing::warn!(?limit, "a delivery hook took too long"),
            }
        }
    }
    .boxed()
}
