use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::FutureExt;

use super::ledger::{self, Ledger, Poison};
use super::trouble::{Trouble, fault};
use crate::error::Result;
use crate::id::{MessageId, WorkerId};
use crate::lease::{LeaseToken, Sequence};
use crate::memory::{MemoryOutbox, MemoryTransaction};
use crate::message::NewMessage;
use crate::ports::{ClaimRequest, Outbox, Settlement, TransactionalOutbox, UnitOfWork};
use crate::report::{AppendReport, ClaimReport, OutboxStats, SettleReport};
use crate::signal::Wake;
use crate::time::Timestamp;

/// An outbox in memory whose calls go wrong, and which writes down what took effect.
#[derive(Clone)]
pub(super) struct SimOutbox {
    pub(super) inner: MemoryOutbox,
    pub(super) ledger: Arc<Ledger>,
    pub(super) trouble: Arc<Trouble>,
    /// Which message a sequence is.
    claimed: Arc<Mutex<HashMap<Sequence, MessageId>>>,
}

/// The header that says who will never take a message.
pub(super) const POISON: &str = "poison";

impl SimOutbox {
    pub(super) fn new(inner: MemoryOutbox, ledger: Arc<Ledger>, trouble: Arc<Trouble>) -> Self {
        Self {
            inner,
            ledger,
            trouble,
            claimed: Arc::default(),
        }
    }

    /// Writes down that `messages` were committed.
    fn commit_to_ledger(&self, messages: &[NewMessage], report: &AppendReport) {
        for (new, appended) in messages.iter().zip(&report.messages) {
            if !appended.duplicate {
                let poison = match new.headers.get(POISON) {
                    Some("queue") => Poison::Queue,
                    Some("handler") => Poison::Handler,
                    _ => Poison::None,
                };
                let one = (appended.id, new);
                self.ledger
                    .write(|books, now| books.committed(now, one, poison));
            }
        }
    }

    async fn append_now(&self, messages: &[NewMessage]) -> Result<AppendReport> {
        let report = self.inner.append(messages).await?;
        self.commit_to_ledger(messages, &report);
        Ok(report)
    }

    /// Commits a transaction that `messages` were appended to with this report; together with
    /// whatever `along` does. The commit may fail, before its effect or after it.
    pub(super) async fn commit(
        &self,
        open: MemoryTransaction,
        (messages, report): (&[NewMessage], &AppendReport),
        along: impl FnOnce(),
    ) -> Result<()> {
        let rates = self.trouble.rates();
        if self.trouble.strikes(rates.errors_before) {
            return Err(fault("commit"));
        }
        self.inner.commit(open).await?;
        self.commit_to_ledger(messages, report);
        along();
        if self.trouble.strikes(rates.errors_after) {
            return Err(fault("commit"));
        }
        Ok(())
    }

    /// Begins a transaction and appends to it.
    pub(super) async fn draft(
        &self,
        messages: &[NewMessage],
    ) -> Result<(MemoryTransaction, AppendReport)> {
        let mut open = self.inner.begin().await?;
        let report = self.inner.append_in(&mut open, messages).await?;
        Ok((open, report))
    }

    /// Makes a row unreadable, now and then.
    fn damage(&self) {
        if self.trouble.strikes(self.trouble.rates().damage) {
            let committed = self.ledger.read(ledger::Books::committed_so_far);
            let number = self.trouble.below(committed.into());
            if self.inner.corrupt(Sequence(number + 1)) {
                self.ledger.write(|books, _| books.row_damaged(number));
            }
        }
    }

    async fn claim_now(&self, request: &ClaimRequest) -> Result<ClaimReport> {
        self.damage();
        let report = self.inner.claim(request).await?;
        {
            let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
            let leased = report.leased.iter();
            claimed.extend(leased.map(|one| (one.token.sequence, one.message.id)));
        }
        self.ledger
            .write(|books, now| books.claimed(now, request, &report));
        Ok(report)
    }

    async fn settle_now(&self, all: &[Settlement], moment: Timestamp) -> Result<SettleReport> {
        let report = self.inner.settle(all, moment).await?;
        let claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let number_of = |token: LeaseToken| claimed.get(&token.sequence).copied();
        self.ledger
            .write(|books, now| books.settled(now, all, &report, number_of));
        Ok(report)
    }

    async fn extend_now(&self, all: &[LeaseToken], until: Timestamp) -> Result<Vec<LeaseToken>> {
        let lost = self.inner.extend(all, until).await?;
        self.ledger
            .write(|books, now| books.extended(now, (all, &lost), until));
        Ok(lost)
    }

    async fn release_now(&self, owner: WorkerId) -> Result<()> {
        self.inner.release(owner).await?;
        self.ledger.write(|books, now| books.released(now, owner));
        Ok(())
    }
}

#[async_trait]
impl Outbox for SimOutbox {
    async fn append(&self, messages: &[NewMessage]) -> Result<AppendReport> {
        let far = || {
            let (me, messages) = (self.clone(), messages.to_vec());
            async move { me.append_now(&messages).await }.boxed()
        };
        self.trouble
            .call("append", self.append_now(messages), far)
            .await?
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<ClaimReport> {
        self.ledger.count_call();
        let far = || {
            let (me, request) = (self.clone(), request.clone());
            async move { me.claim_now(&request).await }.boxed()
        };
        self.trouble
            .call("claim", self.claim_now(request), far)
            .await?
    }

    async fn settle(&self, all: &[Settlement], now: Timestamp) -> Result<SettleReport> {
        self.ledger.count_call();
        let far = || {
            let (me, all) = (self.clone(), all.to_vec());
            async move { me.settle_now(&all, now).await }.boxed()
        };
        self.trouble
            .call("settle", self.settle_now(all, now), far)
            .await?
    }

    async fn extend(&self, all: &[LeaseToken], until: Timestamp) -> Result<Vec<LeaseToken>> {
        self.ledger.count_call();
        let far = || {
            let (me, all) = (self.clone(), all.to_vec());
            async move { me.extend_now(&all, until).await }.boxed()
        };
        self.trouble
            .call("extend", self.extend_now(all, until), far)
            .await?
    }

    async fn release(&self, owner: WorkerId) -> Result<()> {
        self.ledger.count_call();
        let far = || {
            let me = self.clone();
            async move { me.release_now(owner).await }.boxed()
        };
        self.trouble
            .call("release", self.release_now(owner), far)
            .await?
    }

    async fn resume_key(&self, key: &str) -> Result<bool> {
        self.inner.resume_key(key).await
    }

    async fn purge(&self, before: Timestamp, max: usize) -> Result<u64> {
        self.ledger.count_call();
        let far = || {
            let inner = self.inner.clone();
            async move { inner.purge(before, max).await }.boxed()
        };
        self.trouble
            .call("purge", self.inner.purge(before, max), far)
            .await?
    }

    async fn stats(&self, now: Timestamp) -> Result<OutboxStats> {
        self.inner.stats(now).await
    }

    fn wake(&self) -> &Wake {
        self.inner.wake()
    }
}
