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
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Counts the calls that an outbox gets, may be slow, and may lose its answers.
pub(crate) struct Spy {
    inner: MemoryOutbox,
    pub(crate) calls: Arc<AtomicUsize>,
    pub(crate) extended: Arc<AtomicUsize>,
    pub(crate) extends_fail: Arc<AtomicBool>,
    /// How many messages each purge found.
    pub(crate) purged: Arc<Mutex<Vec<u64>>>,
    pub(crate) settling_takes: Duration,
    pub(crate) claims_fail: Arc<AtomicBool>,
    /// For how long the answer of a claim is on its way, in milliseconds.
    pub(crate) claims_take: Arc<AtomicU64>,
    /// Whether the answers of settlements are lost, which is found out a second later.
    pub(crate) settles_unanswered: Arc<AtomicBool>,
    /// The attempt numbers of messages that were handed out.
    pub(crate) attempts: Arc<Mutex<Vec<u32>>>,
}

impl Spy {
    pub(crate) fn new(inner: MemoryOutbox) -> Self {
        Self {
            inner,
            calls: Arc::default(),
            extended: Arc::default(),
            extends_fail: Arc::default(),
            purged: Arc::default(),
            settling_takes: Duration::ZERO,
            claims_fail: Arc::default(),
            claims_take: Arc::default(),
            settles_unanswered: Arc::default(),
            attempts: Arc::default(),
        }
    }

    fn inner(&self) -> &MemoryOutbox {
        self.calls.fetch_add(1, SeqCst);
        &self.inner
    }
}

fn fault(operation: &'static str) -> OutboxError {
    OutboxError::Backend {
        backend: "spy",
        operation,
        transience: Transience::Transient,
        source: "told to fail".into(),
    }
}

#[async_trait]
impl Outbox for Spy {
    async fn append(&self, messages: &[NewMessage]) -> Result<AppendReport> {
        self.inner().append(messages).await
    }
    async fn claim(&self, request: &ClaimRequest) -> Result<ClaimReport> {
        let fails = self.claims_fail.load(SeqCst);
        let claimed = self.inner().claim(request).await;
        let way = Duration::from_millis(self.claims_take.load(SeqCst));
        if !way.is_zero() {
            tokio::time::sleep(way).await;
        }
        if fails {
            return Err(fault("claim"));
        }
        if let Ok(report) = &claimed {
            let attempts = report.leased.iter().map(|one| one.attempt);
            self.attempts.lock().unwrap().extend(attempts);
        }
        claimed
    }
    async fn settle(&self, all: &[Settlement], now: Timestamp) -> Result<SettleReport> {
        if !self.settling_takes.is_zero() {
            tokio::time::sleep(self.settling_takes).await;
        }
        let unanswered = self.settles_unanswered.load(SeqCst);
        let settled = self.inner().settle(all, now).await;
        if unanswered {
            tokio::time::sleep(Duration::from_secs(1)).await;
            return Err(fault("settle"));
        }
        settled
    }
    async fn extend(&self, all: &[LeaseToken], until: Timestamp) -> Result<Vec<LeaseToken>> {
        self.extended.fetch_add(1, SeqCst);
        if self.extends_fail.load(SeqCst) {
            return Err(fault("extend"));
        }
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
