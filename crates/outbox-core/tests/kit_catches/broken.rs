use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::Result;
use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::lease::{Epoch, LeaseToken};
use outbox_core::memory::MemoryOutbox;
use outbox_core::message::NewMessage;
use outbox_core::ports::{ClaimRequest, Outbox, Outcome, Settlement};
use outbox_core::report::{AppendReport, ClaimReport, OutboxStats, SettleReport};
use outbox_core::signal::Wake;
use outbox_core::status::{AttemptRecord, OnFailure};
use outbox_core::time::Timestamp;

/// What is wrong with an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    AppendsOneByOne,
    BlocksInsteadOfParking,
    BlocksInsteadOfSkipping,
    ClaimsOneBatchAtATime,
    ClaimsPausedTopics,
    CommitsAtOnce,
    CountsHeldAsFailed,
    CountsNoAge,
    CountsReleasedAsFailed,
    ExtendsNothing,
    ForgetsHistory,
    ForgetsIdempotencyKeys,
    ForgetsOrderingKeys,
    HasNoLimits,
    HidesUnreadableRows,
    KeepsLeasesForADay,
    LeasesToEverybody,
    LosesHeaders,
    LosesTheLastOfABatch,
    MakesNewIdsAtClaim,
    NamesNoDueTime,
    NamesTimesThatHavePassed,
    PublishesAtPurge,
    PublishesBeforeDue,
    PurgesTheYoung,
    QuarantinesWithoutHistory,
    ReleasesNothing,
    ReplaysNothing,
    ReplaysWhateverIsKept,
    ResumesAnything,
    ReversesBatches,
    SendsNoEpoch,
    SettlesEverything,
    SettlesOneByOne,
    SettlesWithStaleTokens,
    SharesKeysOfAnyCase,
    StopsAtUnreadableRows,
    WakesAtClaim,
    WakesAtSettlement,
    WakesNobody,
}

/// A memory outbox with a fault.
pub(crate) struct Broken {
    inner: MemoryOutbox,
    fault: Fault,
    /// The newest epoch that any handle has seen.
    epoch: Arc<AtomicU64>,
    in_flight: AtomicUsize,
    nobodys: Wake,
}

impl Broken {
    pub(crate) fn new(inner: MemoryOutbox, fault: Fault, epoch: Arc<AtomicU64>) -> Self {
        Self {
            inner,
            fault,
            epoch,
            in_flight: AtomicUsize::new(0),
            nobodys: Wake::new(),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn spoil_new(&self, message: &NewMessage) -> NewMessage {
        let mut message = message.clone();
        match self.fault {
            Fault::ForgetsIdempotencyKeys => message.idempotency_key = None,
            Fault::ForgetsOrderingKeys => message.ordering_key = None,
            Fault::PublishesBeforeDue => message.due_at = None,
            Fault::SharesKeysOfAnyCase => {
                message.ordering_key = message.ordering_key.map(|key| key.trim().to_lowercase());
            }
            _ => {}
        }
        message
    }

    fn spoil_claim(&self, mut report: ClaimReport) -> ClaimReport {
        for leased in &mut report.leased {
            self.epoch.store(leased.token.epoch.0, Ordering::SeqCst);
            match self.fault {
                Fault::LosesHeaders => leased.message.headers = Default::default(),
                Fault::SendsNoEpoch => leased.message.epoch = Epoch::default(),
                Fault::ForgetsHistory => leased.history.clear(),
                Fault::MakesNewIdsAtClaim => {
                    leased.message.id = MessageId::new(Timestamp::EPOCH, &Entropy::from_system());
                }
                _ => {}
            }
        }
        match self.fault {
            Fault::NamesNoDueTime => report.next_due = None,
            Fault::ReversesBatches => report.leased.reverse(),
            Fault::StopsAtUnreadableRows if !report.unreadable.is_empty() => {
                report.leased.clear();
            }
            Fault::HidesUnreadableRows => report.unreadable.clear(),
            _ => {}
        }
        report
    }

    fn spoil_settlement(&self, settlement: &Settlement) -> Settlement {
        let mut settlement = settlement.clone();
        if self.has(Fault::SettlesWithStaleTokens) {
            settlement.token.epoch = Epoch(self.epoch.load(Ordering::SeqCst));
        }
        settlement.outcome = match (self.fault, settlement.outcome) {
            (Fault::CountsHeldAsFailed, Outcome::Hold { until }) => failed(until),
            (Fault::CountsReleasedAsFailed, Outcome::Release) => failed(Timestamp::EPOCH),
            (_, mut outcome) => {
                self.spoil_on_failure(&mut outcome);
                outcome
            }
        };
        settlement
    }

    fn spoil_on_failure(&self, outcome: &mut Outcome) {
        let (Outcome::Retry { on_failure, .. } | Outcome::Quarantine { on_failure, .. }) = outcome
        else {
            return;
        };
        match (self.fault, *on_failure) {
            (Fault::BlocksInsteadOfParking, OnFailure::ParkKey)
            | (Fault::BlocksInsteadOfSkipping, OnFailure::SkipMessage) => {
                *on_failure = OnFailure::BlockKey;
            }
            _ => {}
        }
    }
}

fn failed(due_at: Timestamp) -> Outcome {
    let failure = AttemptRecord {
        at: due_at,
        duration: Duration::ZERO,
        kind: "failed".to_owned(),
        error: String::new(),
    };
    let on_failure = OnFailure::BlockKey;
    Outcome::Retry {
        due_at,
        failure,
        on_failure,
    }
}

#[async_trait]
impl Outbox for Broken {
    async fn append(&self, messages: &[NewMessage]) -> Result<AppendReport> {
        let messages: Vec<_> = messages.iter().map(|m| self.spoil_new(m)).collect();
        if self.has(Fault::LosesTheLastOfABatch) && messages.len() > 1 {
            return self.inner.append(&messages[1..]).await;
        }
        if !self.has(Fault::AppendsOneByOne) {
            return self.inner.append(&messages).await;
        }
        let mut report = AppendReport::default();
        for message in messages {
            report
                .messages
                .extend(self.inner.append(&[message]).await?.messages);
            tokio::task::yield_now().await;
        }
        Ok(report)
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<ClaimReport> {
        let mut request = request.clone();
        match self.fault {
            Fault::ClaimsPausedTopics => request.paused_topics.clear(),
            Fault::KeepsLeasesForADay => request.lease = Duration::from_secs(86_400),
            Fault::LeasesToEverybody => {
                let holders = [1, 2, 3].map(|number| WorkerId::from_bytes([number; 16]));
                for holder in holders
                    .into_iter()
                    .filter(|holder| *holder != request.owner)
                {
                    self.inner.release(holder).await?;
                }
            }
            _ => {}
        }
        if self.has(Fault::ClaimsOneBatchAtATime) && self.in_flight.load(Ordering::SeqCst) > 0 {
            return Ok(ClaimReport::default());
        }
        if self.has(Fault::WakesAtClaim) {
            self.inner.wake().notify();
        }
        let mut report = self.spoil_claim(self.inner.claim(&request).await?);
        self.in_flight
            .fetch_add(report.leased.len(), Ordering::SeqCst);
        if self.has(Fault::NamesTimesThatHavePassed) {
            report.next_due = Some(request.now);
        }
        Ok(report)
    }

    async fn settle(&self, settlements: &[Settlement], now: Timestamp) -> Result<SettleReport> {
        let settlements: Vec<_> = settlements
            .iter()
            .map(|s| self.spoil_settlement(s))
            .collect();
        self.in_flight.store(0, Ordering::SeqCst);
        if self.has(Fault::SettlesEverything) {
            self.inner.settle(&settlements, now).await?;
            let settled = settlements.len() as u64;
            return Ok(SettleReport {
                settled,
                lost: Vec::new(),
            });
        }
        if self.has(Fault::WakesAtSettlement) {
            self.inner.wake().notify();
        }
        if !self.has(Fault::SettlesOneByOne) {
            return self.inner.settle(&settlements, now).await;
        }
        let mut report = SettleReport::default();
        for (index, settlement) in settlements.iter().enumerate() {
            let one = self
                .inner
                .settle(std::slice::from_ref(settlement), now)
                .await?;
            report.settled += one.settled;
            report.lost.extend(one.lost.iter().map(|_| index));
            tokio::task::yield_now().await;
        }
        Ok(report)
    }

    async fn extend(&self, tokens: &[LeaseToken], until: Timestamp) -> Result<Vec<LeaseToken>> {
        if self.has(Fault::ExtendsNothing) {
            return Ok(Vec::new());
        }
        self.inner.extend(tokens, until).await
    }

    async fn release(&self, owner: WorkerId) -> Result<()> {
        if self.has(Fault::ReleasesNothing) {
            return Ok(());
        }
        self.inner.release(owner).await
    }

    async fn resume_key(&self, ordering_key: &str) -> Result<bool> {
        let resumed = self.inner.resume_key(ordering_key).await?;
        Ok(resumed || self.has(Fault::ResumesAnything))
    }

    async fn purge(&self, before: Timestamp, max: usize) -> Result<u64> {
        if self.has(Fault::PublishesAtPurge) {
            let request = ClaimRequest {
                owner: WorkerId::from_bytes([9; 16]),
                max,
                lease: Duration::from_secs(1),
                now: before,
                paused_topics: Vec::new(),
            };
            for leased in self.inner.claim(&request).await?.leased {
                let outcome = Outcome::Published;
                let settlement = Settlement {
                    token: leased.token,
                    outcome,
                };
                self.inner.settle(&[settlement], Timestamp::EPOCH).await?;
            }
        }
        let early = Duration::from_secs(if self.has(Fault::PurgesTheYoung) {
            60
        } else {
            0
        });
        self.inner.purge(before + early, max).await
    }

    async fn stats(&self, now: Timestamp) -> Result<OutboxStats> {
        let mut stats = self.inner.stats(now).await?;
        if self.has(Fault::CountsNoAge) {
            stats.oldest = None;
        }
        Ok(stats)
    }

    fn wake(&self) -> &Wake {
        if self.has(Fault::WakesNobody) {
            return &self.nobodys;
        }
        self.inner.wake()
    }
}
