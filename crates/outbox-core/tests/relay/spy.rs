use async_trait::async_trait;
use outbox_core::error::Transience;
use outbox_core::id::WorkerId;
use outbox_core::lease::LeaseToken;
use outbox_core::memory::MemoryOutbox;
use outbox_core::message::NewMessage;
use outbox_core::ports::Settlement;
use outbox_core::ports::{ClaimRequest, Outbox};
use outbox_core::report::{AppendReport, ClaimReport, OutboxStats, SettleReport};
use outbox_core::signal::Wake;
use outbox_core::time::Timestamp;
use outbox_core::{OutboxError, Result};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Counts the calls that an outbox gets, may be slow to claim or settle, and may fail to claim.
pub(crate) struct Spy {
    inner: MemoryOutbox,
    pub(crate) calls: Arc<AtomicUsize>,
    pub(crate) extended: Arc<AtomicUsize>,
    /// How many messages each purge found.
    pub(crate) purged: Arc<Mutex<Vec<u64>>>,
    pub(crate) claiming_takes: Duration,
    pub(crate) settling_takes: Duration,
    pub(crate) claims_fail: Arc<AtomicBool>,
}

impl Spy {
    pub(crate) fn new(inner: MemoryOutbox) -> Self {
        Self {
            inner,
            calls: Arc::default(),
            extended: Arc::default(),
            purged: Arc::default(),
            claiming_takes: Duration::ZERO,
            settling_takes: Duration::ZERO,
            claims_fail: Arc::default(),
        }
    }

    fn inner(&self) -> &MemoryOutbox {
        self.calls.fetch_add(1, SeqCst);
        &self.inner
    }
}

#[async_trait]
impl Outbox for Spy {
    async fn append(&self, messages: &[NewMessage]) -> Result<AppendReport> {
        self.inner().append(messages).await
    }
    async fn claim(&self, request: &ClaimRequest) -> Result<ClaimReport> {
        if !self.claiming_takes.is_zero() {
            tokio::time::sleep(self.claiming_takes).await;
        }
        let claimed = self.inner().claim(request).await;
        if self.claims_fail.load(SeqCst) {
            return Err(OutboxError::Backend {
                backend: "spy",
                operation: "claim",
                transience: Transience::Transient,
                source: "told to fail".into(),
            });
        }
        claimed
    }
    async fn settle(&self, all: &[Settlement], now: Timestamp) -> Result<SettleReport> {
        if !self.settling_takes.is_zero() {
            tokio::time::sleep(self.settling_takes).await;
        }
        self.inner().settle(all, now).await
    }
    async fn extend(&self, all: &[LeaseToken], until: Timestamp) -> Result<Vec<LeaseToken>> {
        self.extended.fetch_add(1, SeqCst);
        self.inner().extend(all, until).await
    }
    async fn release(&self, owner: WorkerId) -> Result<()> {
        self.inner().release(owner).await
    }
    async fn resume_key(&self, key: &str) -> Result<bool> {
        self.inner().resume_key(key).await
    }
    async fn purge(&self, before: Timestamp, max: usize) -> Result<u64> {
        let purged = self.inner().purge(before, max).await?;
        self.purged.lock().unwrap().push(purged);
        Ok(purged)
    }
    async fn stats(&self, now: Timestamp) -> Result<OutboxStats> {
        self.inner().stats(now).await
    }
    fn wake(&self) -> &Wake {
        self.inner.wake()
    }
}
