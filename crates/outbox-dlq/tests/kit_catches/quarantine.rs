use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use outbox_core::Result;
use outbox_core::time::Timestamp;
use outbox_dlq::{
    Action, ActionId, Attempts, AuditRecord, CountRequest, Counts, DeadLetter, DiscardReport,
    DiscardRequest, DlqEntry, Filter, Fingerprint, ImportReport, LetterId, Listing, Move, Page,
    Quarantine, RedriveReport, RedriveRequest,
};

/// What is wrong with a quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuarantineFault {
    AlwaysResets,
    AnswersInReverse,
    AuditsEachStep,
    CountsNothing,
    DiscardsAll,
    ForgetsRedrives,
    GroupsByPlainText,
    HidesTheDamaged,
    HidesWantOfRoom,
    IgnoresFilters,
    ImportsWithoutPayload,
    KeepsNoAudit,
    LosesHistory,
    MovesOneByOne,
    NeverEndsItsPages,
    NeverResets,
    RedrivesForEver,
    RedrivesInADryRun,
    RedrivesOneByOne,
    RedrivesTheNewestFirst,
    SkipsBetweenPages,
    TakesAnyFilter,
    TellsAllAsMoved,
}

/// A quarantine with a fault.
pub(crate) struct BrokenQuarantine {
    pub(crate) inner: Arc<dyn Quarantine>,
    pub(crate) fault: QuarantineFault,
    pub(crate) steps: AtomicU64,
}

impl BrokenQuarantine {
    fn has(&self, fault: QuarantineFault) -> bool {
        self.fault == fault
    }

    fn spoil(&self, letter: &mut DeadLetter) {
        match self.fault {
            QuarantineFault::LosesHistory => letter.history.clear(),
            QuarantineFault::ForgetsRedrives => letter.redrives = 0,
            QuarantineFault::GroupsByPlainText => {
                letter.fingerprint = Fingerprint::of(&letter.error, "", "");
            }
            _ => {}
        }
    }

    fn spoil_request(&self, request: &RedriveRequest) -> RedriveRequest {
        let mut request = request.clone();
        match self.fault {
            QuarantineFault::AlwaysResets => request.attempts = Attempts::Reset,
            QuarantineFault::NeverResets => request.attempts = Attempts::Keep,
            QuarantineFault::RedrivesForEver => request.max_redrives = None,
            QuarantineFault::RedrivesInADryRun => request.dry_run = false,
            QuarantineFault::AuditsEachStep => {
                request.action.id = ActionId(self.steps.fetch_add(1, Ordering::Relaxed));
            }
            _ => {}
        }
        request
    }

    /// Sends `ids` back one after the other.
    async fn one_by_one(
        &self,
        request: &RedriveRequest,
        ids: impl Iterator<Item = LetterId>,
    ) -> Result<RedriveReport> {
        let mut report = RedriveReport::default();
        for id in ids {
            let request = RedriveRequest {
                filter: Filter::one(id),
                after: None,
                ..request.clone()
            };
            let one = self.inner.redrive(&request).await?;
            report.redriven.extend(one.redriven);
            report.refused.extend(one.refused);
            tokio::task::yield_now().await;
        }
        Ok(report)
    }
}

#[async_trait]
impl Quarantine for BrokenQuarantine {
    async fn quarantine(&self, entries: &[DlqEntry], now: Timestamp) -> Result<Vec<Move>> {
        if self.has(QuarantineFault::MovesOneByOne) {
            let mut moves = Vec::new();
            for entry in entries {
                let entry = std::slice::from_ref(entry);
                moves.extend(self.inner.quarantine(entry, now).await?);
                tokio::task::yield_now().await;
            }
            return Ok(moves);
        }
        let mut moves = self.inner.quarantine(entries, now).await?;
        match self.fault {
            QuarantineFault::TellsAllAsMoved => moves.fill(Move::Moved),
            QuarantineFault::AnswersInReverse => moves.reverse(),
            _ => {}
        }
        Ok(moves)
    }

    async fn list(&self, filter: &Filter, page: Page) -> Result<Listing> {
        let (mut filter, mut page) = (filter.clone(), page);
        match self.fault {
            QuarantineFault::IgnoresFilters => filter = Filter::default(),
            QuarantineFault::TakesAnyFilter => filter.ids.truncate(Filter::MOST_IDS),
            QuarantineFault::SkipsBetweenPages => {
                page.after = page.after.map(|after| LetterId(after.0 + 1));
            }
            _ => {}
        }
        let mut listing = self.inner.list(&filter, page).await?;
        if self.has(QuarantineFault::HidesTheDamaged) {
            listing.letters.retain(|letter| letter.problem.is_none());
        }
        if self.has(QuarantineFault::NeverEndsItsPages) {
            // Until the case must have noticed.
            let ended = self.steps.fetch_add(1, Ordering::Relaxed) > 20;
            listing.next = listing.next.or((!ended).then_some(LetterId(1)));
        }
        listing
            .letters
            .iter_mut()
            .for_each(|letter| self.spoil(letter));
        Ok(listing)
    }

    async fn last(&self) -> Result<Option<LetterId>> {
        self.inner.last().await
    }

    async fn redrive(&self, request: &RedriveRequest) -> Result<RedriveReport> {
        let request = self.spoil_request(request);
        let newest = self.has(QuarantineFault::RedrivesTheNewestFirst);
        if !newest && !self.has(QuarantineFault::RedrivesOneByOne) {
            let mut report = self.inner.redrive(&request).await?;
            report.full = report
                .full
                .filter(|_| !self.has(QuarantineFault::HidesWantOfRoom));
            return Ok(report);
        }
        let all = self.inner.list(&request.filter, Page::first(1_000)).await?;
        let mut ids: Vec<_> = all.letters.iter().map(|letter| letter.id).collect();
        if newest {
            // They were buried in the reverse order.
            ids.sort();
        }
        let more = ids.len() > request.max;
        ids.truncate(request.max);
        let mut report = self.one_by_one(&request, ids.into_iter()).await?;
        if more {
            let dry = RedriveRequest {
                dry_run: true,
                max: 1,
                ..request
            };
            report.next = self.inner.redrive(&dry).await?.next;
        }
        Ok(report)
    }

    async fn discard(&self, request: &DiscardRequest) -> Result<DiscardReport> {
        let mut request = request.clone();
        if self.has(QuarantineFault::DiscardsAll) {
            request.filter = Filter::default();
        }
        self.inner.discard(&request).await
    }

    async fn count(&self, request: &CountRequest) -> Result<Counts> {
        if self.has(QuarantineFault::CountsNothing) {
            return Ok(Counts::default());
        }
        let mut counts = self.inner.count(request).await?;
        if self.has(QuarantineFault::ForgetsRedrives) {
            counts.came_back = 0;
        }
        Ok(counts)
    }

    async fn import(
        &self,
        letters: &[DeadLetter],
        action: &Action,
        now: Timestamp,
    ) -> Result<ImportReport> {
        let mut letters = letters.to_vec();
        if self.has(QuarantineFault::ImportsWithoutPayload) {
            for message in letters
                .iter_mut()
                .filter_map(|letter| letter.message.as_mut())
            {
                message.payload = Bytes::new();
            }
        }
        self.inner.import(&letters, action, now).await
    }

    async fn audit(&self, after: u64, max: usize) -> Result<Vec<AuditRecord>> {
        if self.has(QuarantineFault::KeepsNoAudit) {
            return Ok(Vec::new());
        }
        self.inner.audit(after, max).await
    }
}
