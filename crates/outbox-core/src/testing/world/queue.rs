use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::time::Instant;

use super::ledger::{Ledger, Poison};
use super::trouble::Trouble;
use crate::error::{PublishError, Result};
use crate::id::WorkerId;
use crate::lease::Receipt;
use crate::memory::MemoryQueue;
use crate::message::Message;
use crate::ports::{
    DeliverySettlement, DequeueReport, DequeueRequest, Enqueued, Queue, RecoverRequest,
};
use crate::report::{QueueStats, SettleReport};
use crate::signal::Wake;
use crate::status::Ordering;
use crate::time::Timestamp;

/// A queue in memory whose calls go wrong, and which writes down what took effect.
#[derive(Clone)]
pub(super) struct SimQueue {
    pub(super) inner: MemoryQueue,
    pub(super) ledger: Arc<Ledger>,
    pub(super) trouble: Arc<Trouble>,
}

impl SimQueue {
    /// Adds what is fit to be added; at times only a part of it.
    async fn enqueue_now(&self, messages: &[Message]) -> Vec<Result<Enqueued, PublishError>> {
        let partial = self.trouble.strikes(self.trouble.rates().partial);
        let mut held_back: Vec<&str> = Vec::new();
        let mut results = Vec::with_capacity(messages.len());
        for message in messages {
            let key = message.ordering_key.as_deref();
            let result = if key.is_some_and(|key| held_back.contains(&key)) {
                Err(PublishError::HeldBack)
            } else {
                self.enqueue_one(message, partial).await
            };
            if result.is_err() {
                held_back.extend(key);
            }
            results.push(result);
        }
        results
    }

    async fn enqueue_one(
        &self,
        message: &Message,
        partial: bool,
    ) -> Result<Enqueued, PublishError> {
        if self.ledger.poison(message.id) == Poison::Queue {
            self.ledger.write(|books, _| books.refused(message.id));
            return Err(PublishError::refused("poison"));
        }
        if partial && self.trouble.below(3) == 0 {
            self.ledger.write(|books, _| books.refused(message.id));
            return Err(PublishError::failed("a fault on purpose"));
        }
        let mut results = self.inner.enqueue(std::slice::from_ref(message)).await;
        let result = results.pop().unwrap_or(Err(PublishError::HeldBack));
        if let Ok(enqueued) = &result {
            let added = *enqueued == Enqueued::Added;
            self.ledger
                .write(|books, now| books.enqueued(now, message, added));
        }
        result
    }

    /// Makes an entry unreadable, now and then.
    fn damage(&self) {
        if self.trouble.strikes(self.trouble.rates().damage) {
            let draw = |end| self.trouble.below(end);
            let id = self.ledger.read(|books| books.any_message(draw));
            if let Some(id) = id.filter(|id| self.inner.corrupt(*id)) {
                self.ledger.write(|books, _| books.entry_damaged(id));
            }
        }
    }

    async fn dequeue_now(&self, request: &DequeueRequest) -> Result<DequeueReport> {
        self.damage();
        let began = Instant::now();
        let report = self.inner.dequeue(request).await?;
        let moment = request.now + began.elapsed();
        self.note(&report, (moment, moment + request.lease));
        Ok(report)
    }

    async fn recover_now(&self, request: &RecoverRequest) -> Result<DequeueReport> {
        let report = self.inner.recover_stuck(request).await?;
        self.note(&report, (request.now, request.now + request.lease));
        Ok(report)
    }

    fn note(&self, report: &DequeueReport, times: (Timestamp, Timestamp)) {
        for unreadable in &report.unreadable {
            self.ledger
                .write(|books, now| books.entry_set_aside(now, &unreadable.place, times.0));
        }
        for delivery in &report.deliveries {
            self.ledger
                .write(|books, now| books.delivered(now, delivery, times));
        }
    }

    /// A worker has its answer.
    fn answered(&self, owner: WorkerId, report: Result<DequeueReport>) -> Result<DequeueReport> {
        let report = report?;
        self.ledger
            .write(|books, _| books.taken(owner, &report.deliveries));
        Ok(report)
    }

    async fn settle_now(
        &self,
        all: &[DeliverySettlement],
        moment: Timestamp,
    ) -> Result<SettleReport> {
        let report = self.inner.settle(all, moment).await?;
        self.ledger
            .write(|books, now| books.concluded(now, all, &report));
        Ok(report)
    }

    async fn extend_now(
        &self,
        all: &[Receipt],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Receipt>> {
        let lost = self.inner.extend(all, lease, now).await?;
        self.ledger
            .write(|books, _| books.prolonged((all, &lost), now + lease));
        Ok(lost)
    }
}

#[async_trait]
impl Queue for SimQueue {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn ordering(&self) -> Ordering {
        self.inner.ordering()
    }

    fn room(&self) -> Option<Wake> {
        self.inner.room()
    }

    async fn enqueue(&self, messages: &[Message]) -> Vec<Result<Enqueued, PublishError>> {
        self.ledger.count_call();
        let unavailable = || {
            messages
                .iter()
                .map(|_| Err(PublishError::unavailable("away")))
        };
        let far = || {
            let (me, messages) = (self.clone(), messages.to_vec());
            async move { me.enqueue_now(&messages).await }.boxed()
        };
        let call = self
            .trouble
            .call("enqueue", self.enqueue_now(messages), far);
        match call.await {
            Ok(results) => results,
            // The answer is lost: whether the messages are in the queue is not known.
            Err(_) => unavailable().collect(),
        }
    }

    async fn dequeue(&self, request: &DequeueRequest) -> Result<DequeueReport> {
        self.ledger.count_call();
        let far = || {
            let (me, mut request) = (self.clone(), request.clone());
            // A broker notices soon that the one who waits is gone.
            request.wait = request.wait.min(Duration::from_secs(1));
            async move { me.dequeue_now(&request).await }.boxed()
        };
        let call = self.trouble.call("dequeue", self.dequeue_now(request), far);
        self.answered(request.owner, call.await?)
    }

    async fn settle(&self, all: &[DeliverySettlement], now: Timestamp) -> Result<SettleReport> {
        self.ledger.count_call();
        let far = || {
            let (me, all) = (self.clone(), all.to_vec());
            async move { me.settle_now(&all, now).await }.boxed()
        };
        let call = self.trouble.call("settle", self.settle_now(all, now), far);
        let report = call.await??;
        let receipts = all.iter().map(|one| &one.receipt);
        self.ledger.write(|books, _| books.given_up(receipts));
        Ok(report)
    }

    async fn extend(
        &self,
        all: &[Receipt],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Receipt>> {
        self.ledger.count_call();
        let far = || {
            let (me, all) = (self.clone(), all.to_vec());
            async move { me.extend_now(&all, lease, now).await }.boxed()
        };
        let call = self
            .trouble
            .call("extend", self.extend_now(all, lease, now), far);
        let lost = call.await??;
        self.ledger.write(|books, _| books.given_up(lost.iter()));
        Ok(lost)
    }

    async fn recover_stuck(&self, request: &RecoverRequest) -> Result<DequeueReport> {
        self.ledger.count_call();
        let far = || {
            let (me, request) = (self.clone(), request.clone());
            async move { me.recover_now(&request).await }.boxed()
        };
        let call = self.trouble.call("recover", self.recover_now(request), far);
        self.answered(request.owner, call.await?)
    }

    async fn stats(&self, now: Timestamp) -> Result<QueueStats> {
        self.inner.stats(now).await
    }
}
