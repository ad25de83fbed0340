use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::sleep;

use super::config::Guard;
use super::ledger::Poison;
use super::outbox::SimOutbox;
use super::process::Process;
use super::publisher::topic;
use crate::delivery::Delivery;
use crate::error::HandlerError;
use crate::id::MessageId;
use crate::message::NewMessage;
use crate::ports::{Handled, Handler};

/// The header of messages whose handling appends another.
pub(super) const FOLLOWED: &str = "followed";

/// The records of an inbox: which messages have had their effect.
#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<Mutex<HashSet<MessageId>>>);

impl Inbox {
    fn knows(&self, id: MessageId) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&id)
    }

    fn record(&self, id: MessageId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id);
    }
}

/// A handler that goes wrong, in one process.
pub(super) struct SimHandler {
    pub(super) process: Arc<Process>,
    pub(super) outbox: SimOutbox,
    pub(super) guard: Guard,
    pub(super) inbox: Inbox,
    /// The user's own, where there is one.
    pub(super) inner: Option<Arc<dyn Handler>>,
}

#[async_trait]
impl Handler for SimHandler {
    async fn handle(&self, delivery: &Delivery) -> Result<Handled, HandlerError> {
        self.process.share(self.attempt(delivery)).await
    }
}

impl SimHandler {
    async fn attempt(&self, delivery: &Delivery) -> Result<Handled, HandlerError> {
        let (ledger, trouble) = (&self.outbox.ledger, &self.outbox.trouble);
        let id = delivery.message.id;
        ledger.write(|books, now| books.started(now, id));
        if trouble.below(3) == 0 {
            sleep(trouble.up_to(Duration::from_millis(20))).await;
        }
        if ledger.poison(id) == Poison::Handler {
            return Err(HandlerError::reject("poison"));
        }
        if trouble.strikes(trouble.rates().handler) {
            self.go_wrong().await?;
        }
        if let Some(inner) = &self.inner {
            inner.handle(delivery).await?;
        }
        if self.guard == Guard::Inbox {
            return self.commit(delivery).await;
        }
        ledger.write(|books, now| books.handled(now, id));
        Ok(Handled::Done)
    }

    async fn go_wrong(&self) -> Result<(), HandlerError> {
        match self.outbox.trouble.below(6) {
            0 => sleep(Duration::from_secs(60)).await,
            1 => sleep(self.outbox.trouble.up_to(Duration::from_secs(5))).await,
            // As a panic unwinds, but without its report on the standard error.
            2 => std::panic::resume_unwind(Box::new("a panic on purpose")),
            _ => {}
        }
        Err(HandlerError::retry("a fault on purpose"))
    }

    /// Commits the effect, the inbox's record and what follows in one transaction.
    async fn commit(&self, delivery: &Delivery) -> Result<Handled, HandlerError> {
        let message = &delivery.message;
        let follows = message.headers.get(FOLLOWED).is_some();
        let payload = format!("follows {}", message.id);
        let follower = NewMessage::new(topic(0), payload).ordering_key("key-0");
        let followers = if follows { vec![follower] } else { Vec::new() };
        let drafted = self.outbox.draft(&followers).await;
        let (open, report) = drafted.map_err(HandlerError::retry)?;
        if self.outbox.trouble.below(4) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        if self.inbox.knows(message.id) {
            return Ok(Handled::Duplicate);
        }
        let record = || {
            self.inbox.record(message.id);
            let ledger = &self.outbox.ledger;
            ledger.write(|books, now| books.handled(now, message.id));
        };
        let committed = self.outbox.commit(open, (&followers, &report), record);
        committed.await.map_err(HandlerError::retry)?;
        Ok(Handled::Done)
    }
}
