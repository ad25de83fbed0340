use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::append::Drafts;
use super::state::State;
use crate::delivery::Quarantined;
use crate::error::Result;
use crate::id::{Entropy, MessageId, WorkerId};
use crate::lease::{LeaseToken, Sequence};
use crate::message::{Limits, NewMessage};
use crate::ports::{ClaimRequest, Outbox, Outcome, Settlement};
use crate::report::{AppendReport, ClaimReport, OutboxStats, SettleReport};
use crate::signal::Wake;
use crate::status::MessageStatus;
use crate::time::{Clock, SystemClock, Timestamp};

/// How a [`MemoryOutbox`] behaves.
#[derive(Clone, Debug)]
pub struct MemoryOutboxConfig {
    /// The sizes that are accepted; [`Limits::default`] by default.
    pub limits: Limits,
    /// Whether published messages are kept until they are purged; deleted at once by default.
    pub keep_published: bool,
    /// Where appended messages take their creation time from; the system's clock by default.
    pub clock: Arc<dyn Clock>,
    /// What ids are made from; seeded by the system by default.
    pub entropy: Entropy,
}

impl Default for MemoryOutboxConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            keep_published: false,
            clock: Arc::new(SystemClock),
            entropy: Entropy::from_system(),
        }
    }
}

/// An outbox in memory: the reference model of the contract, and a fake for tests.
///
/// It forgets everything with its last clone, and a claim looks at every message before the ones
/// that it takes. Clones are handles on the same outbox.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use outbox_core::memory::MemoryOutbox;
/// use outbox_core::message::NewMessage;
/// use outbox_core::ports::Outbox;
/// use outbox_core::time::Timestamp;
///
/// let outbox = MemoryOutbox::default();
/// outbox.append(&[NewMessage::new("orders", "placed")]).await?;
/// assert_eq!(outbox.stats(Timestamp::EPOCH).await?.ready, 1);
/// # Ok::<_, outbox_core::OutboxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
#[doc(alias = "InMemoryOutbox")]
pub struct MemoryOutbox(pub(super) Arc<Shared>);

/// What all clones share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) config: MemoryOutboxConfig,
    state: Mutex<State>,
    wake: Wake,
}

impl MemoryOutbox {
    /// An empty outbox.
    #[must_use]
    pub fn new(config: MemoryOutboxConfig) -> Self {
        Self(Arc::new(Shared {
            config,
            ..Shared::default()
        }))
    }

    /// Where every message that is not in quarantine stands at `now`, in commit order, published
    /// ones first.
    #[must_use]
    pub fn statuses(&self, now: Timestamp) -> Vec<(MessageId, MessageStatus)> {
        self.state().statuses(now)
    }

    /// All that is in quarantine, oldest first.
    #[must_use]
    pub fn quarantined(&self) -> Vec<Quarantined> {
        self.state().quarantined.clone()
    }

    /// Damages the unsent message at `sequence`, as a broken disk would; whether there is one.
    pub fn corrupt(&self, sequence: Sequence) -> bool {
        match self.state().rows.get_mut(&sequence) {
            Some(row) => {
                row.unreadable = true;
                true
            }
            None => false,
        }
    }

    /// Adds to `drafts` what is news among `messages`.
    pub(super) fn draft(
        &self,
        drafts: &mut Drafts,
        state: &State,
        messages: &[NewMessage],
    ) -> AppendReport {
        let now = self.0.config.clock.now();
        let entropy = &self.0.config.entropy;
        let add = |message| drafts.add(state, message, now, entropy);
        AppendReport {
            messages: messages.iter().map(add).collect(),
        }
    }

    /// Never held across an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake_if(&self, news: bool) {
        if news {
            self.0.wake.notify();
        }
    }
}

#[async_trait]
impl Outbox for MemoryOutbox {
    async fn append(&self, messages: &[NewMessage]) -> Result<AppendReport> {
        self.0.config.limits.check_batch(messages)?;
        let mut drafts = Drafts::default();
        let mut state = self.state();
        let report = self.draft(&mut drafts, &state, messages);
        state.commit(drafts)?;
        self.wake_if(report.added() > 0);
        Ok(report)
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<ClaimReport> {
        Ok(self.state().claim(request))
    }

    async fn settle(&self, settlements: &[Settlement], now: Timestamp) -> Result<SettleReport> {
        let keep_published = self.0.config.keep_published;
        let report = self.state().settle(settlements, now, keep_published);
        let put_back = settlements
            .iter()
            .any(|settlement| is_claimable_at_once(&settlement.outcome, now));
        self.wake_if(put_back && report.settled > 0);
        Ok(report)
    }

    async fn extend(&self, tokens: &[LeaseToken], until: Timestamp) -> Result<Vec<LeaseToken>> {
        let mut state = self.state();
        let (held, lost): (Vec<_>, Vec<_>) = tokens
            .iter()
            .copied()
            .partition(|token| state.is_held(*token));
        if !held.is_empty() {
            state.lease.expires_at = state.lease.expires_at.max(until);
        }
        Ok(lost)
    }

    async fn release(&self, owner: WorkerId) -> Result<()> {
        let released = self.state().release(owner);
        self.wake_if(released);
        Ok(())
    }

    async fn resume_key(&self, ordering_key: &str) -> Result<bool> {
        let resumed = self.state().parked_keys.remove(ordering_key);
        self.wake_if(resumed);
        Ok(resumed)
    }

    async fn purge(&self, before: Timestamp, max: usize) -> Result<u64> {
        Ok(self.state().purge(before, max))
    }

    async fn stats(&self, now: Timestamp) -> Result<OutboxStats> {
        Ok(self.state().stats(now))
    }

    fn wake(&self) -> &Wake {
        &self.0.wake
    }
}

fn is_claimable_at_once(outcome: &Outcome, now: Timestamp) -> bool {
    match outcome {
        Outcome::Release => true,
        Outcome::Retry { due_at: at, .. } | Outcome::Hold { until: at } => *at <= now,
        Outcome::Published | Outcome::Quarantine { .. } => false,
    }
}
