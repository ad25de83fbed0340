use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use outbox_core::Result;
use outbox_core::time::Timestamp;
use outbox_dlq::{DlqEntry, DlqHeap, DrainRequest, Failure, HeapStats, Origin, Subject};

/// What is wrong with a heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeapFault {
    ClaimsNothing,
    ConfirmsAllItDrained,
    ConfirmsAnyClaim,
    ConfirmsNothing,
    CountsNoClaims,
    CountsOnceACall,
    DrainsWithoutBound,
    ForgetsWhatItDrains,
    IgnoresAge,
    IgnoresSuccess,
    IgnoresTheThreshold,
    LosesErrors,
    MixesOrigins,
    PurgesTheYoung,
    PurgesWhatIsClaimed,
    StopsCountingTheClaimed,
}

/// A heap with a fault.
pub(crate) struct BrokenHeap {
    pub(crate) inner: Arc<dyn DlqHeap>,
    pub(crate) fault: HeapFault,
    /// All that was drained.
    pub(crate) drained: Mutex<Vec<DlqEntry>>,
}

impl BrokenHeap {
    fn has(&self, fault: HeapFault) -> bool {
        self.fault == fault
    }

    fn drained(&self) -> Vec<DlqEntry> {
        self.drained.lock().unwrap().clone()
    }
}

#[async_trait]
impl DlqHeap for BrokenHeap {
    async fn record_failures(&self, failures: &[Failure]) -> Result<()> {
        let mut failures = failures.to_vec();
        for failure in &mut failures {
            match self.fault {
                HeapFault::LosesErrors => failure.error.clear(),
                HeapFault::MixesOrigins => failure.subject.origin = Origin::Outbox,
                _ => {}
            }
        }
        if self.has(HeapFault::CountsOnceACall) {
            failures.sort_by(|a, b| a.subject.cmp(&b.subject));
            failures.dedup();
        }
        if self.has(HeapFault::StopsCountingTheClaimed) {
            let drained = self.drained();
            failures.retain(|failure| drained.iter().all(|e| e.subject != failure.subject));
        }
        self.inner.record_failures(&failures).await
    }

    async fn record_successes(&self, subjects: &[Subject]) -> Result<()> {
        if self.has(HeapFault::IgnoresSuccess) {
            return Ok(());
        }
        self.inner.record_successes(subjects).await
    }

    async fn drain_exceeded(&self, request: &DrainRequest) -> Result<Vec<DlqEntry>> {
        let mut request = request.clone();
        match self.fault {
            HeapFault::DrainsWithoutBound => request.max = usize::MAX,
            HeapFault::IgnoresAge => request.failing_since = None,
            HeapFault::IgnoresTheThreshold => request.threshold = 1,
            _ => {}
        }
        let drained = self.inner.drain_exceeded(&request).await?;
        match self.fault {
            HeapFault::ClaimsNothing => {
                self.inner.release(&drained).await?;
            }
            HeapFault::ForgetsWhatItDrains => {
                self.inner.confirm(&drained).await?;
            }
            _ => {}
        }
        self.drained.lock().unwrap().extend(drained.iter().cloned());
        Ok(drained)
    }

    async fn confirm(&self, drained: &[DlqEntry]) -> Result<u64> {
        match self.fault {
            HeapFault::ConfirmsNothing => Ok(0),
            HeapFault::ConfirmsAllItDrained => self.inner.confirm(&self.drained()).await,
            HeapFault::ConfirmsAnyClaim => {
                let subjects: Vec<_> = drained.iter().map(|e| e.subject.clone()).collect();
                self.inner.record_successes(&subjects).await?;
                Ok(drained.len() as u64)
            }
            _ => self.inner.confirm(drained).await,
        }
    }

    async fn release(&self, drained: &[DlqEntry]) -> Result<u64> {
        self.inner.release(drained).await
    }

    async fn purge(&self, before: Timestamp, max: usize, now: Timestamp) -> Result<u64> {
        match self.fault {
            HeapFault::PurgesTheYoung => self.inner.purge(Timestamp::MAX, max, now).await,
            HeapFault::PurgesWhatIsClaimed => self.inner.purge(before, max, Timestamp::MAX).await,
            _ => self.inner.purge(before, max, now).await,
        }
    }

    async fn stats(&self, now: Timestamp) -> Result<HeapStats> {
        let mut stats = self.inner.stats(now).await?;
        if self.has(HeapFault::CountsNoClaims) {
            stats.claimed = 0;
        }
        Ok(stats)
    }
}
