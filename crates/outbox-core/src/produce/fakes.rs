//! A store for the tests of this module: business rows and messages, committed together.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::error::{BoxError, OutboxError, Result, Transience};
use crate::id::{Entropy, MessageId, WorkerId};
use crate::lease::LeaseToken;
use crate::message::NewMessage;
use crate::ports::{ClaimRequest, Outbox, Settlement, TransactionalOutbox, UnitOfWork};
use crate::report::{AppendReport, Appended, ClaimReport, OutboxStats, SettleReport};
use crate::signal::Wake;
use crate::time::Timestamp;

/// What happens to a commit.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fault {
    None,
    /// It does not happen, and may be repeated.
    Busy,
    /// It happens, but its answer says that this is unknown.
    AnswerLost,
    /// It does not happen, and repeating it does not help.
    Dead,
}

#[derive(Clone, Default)]
struct State {
    rows: Vec<String>,
    messages: Vec<(MessageId, NewMessage)>,
}

impl State {
    fn append(&mut self, message: &NewMessage) -> Appended {
        let key = message.idempotency_key.as_ref();
        let same = |(id, known): &&(MessageId, NewMessage)| {
            message.id == Some(*id) || (key.is_some() && known.idempotency_key.as_ref() == key)
        };
        if let Some((id, _)) = self.messages.iter().find(same) {
            return Appended {
                id: *id,
                duplicate: true,
            };
        }
        let entropy = Entropy::seeded(self.messages.len() as u64);
        let fresh = || MessageId::new(Timestamp::EPOCH, &entropy);
        let id = message.id.unwrap_or_else(fresh);
        self.messages.push((id, message.clone()));
        Appended {
            id,
            duplicate: false,
        }
    }
}

/// The store; one transaction at a time sees all that was committed before.
#[derive(Default)]
pub(super) struct Store {
    state: Mutex<State>,
    faults: Mutex<VecDeque<Fault>>,
    commits: Mutex<usize>,
    wake: Wake,
}

/// A transaction.
pub(super) struct Draft(State);

impl Draft {
    /// Adds a business row.
    pub(super) fn insert(&mut self, row: &str) {
        self.0.rows.push(row.to_owned());
    }
}

impl Store {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A store whose commits meet these faults, and then none.
    pub(super) fn failing<const N: usize>(faults: [Fault; N]) -> Arc<Self> {
        Arc::new(Self {
            faults: Mutex::new(faults.into()),
            ..Self::default()
        })
    }

    pub(super) fn rows(&self) -> Vec<String> {
        self.state.lock().unwrap().rows.clone()
    }

    pub(super) fn messages(&self) -> Vec<NewMessage> {
        let state = self.state.lock().unwrap();
        state
            .messages
            .iter()
            .map(|(_, message)| message.clone())
            .collect()
    }

    pub(super) fn payloads(&self) -> Vec<String> {
        let text = |message: NewMessage| String::from_utf8(message.payload.to_vec()).unwrap();
        self.messages().into_iter().map(text).collect()
    }

    /// How often something was committed, or tried to be.
    pub(super) fn appends(&self) -> usize {
        *self.commits.lock().unwrap()
    }

    fn finish(&self, state: State) -> Result<()> {
        *self.commits.lock().unwrap() += 1;
        let fault = self
            .faults
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or(Fault::None);
        if matches!(fault, Fault::None | Fault::AnswerLost) {
            *self.state.lock().unwrap() = state;
        }
        match fault {
            Fault::None => Ok(()),
            Fault::Busy | Fault::AnswerLost => Err(failure(Transience::Transient)),
            Fault::Dead => Err(failure(Transience::Permanent)),
        }
    }
}

fn failure(transience: Transience) -> OutboxError {
    OutboxError::Backend {
        backend: "fake",
        operation: "commit",
        transience,
        source: "as the test wants it".into(),
    }
}

#[async_trait]
impl UnitOfWork for Store {
    type Open = Draft;
    type Tx = Draft;

    async fn begin(&self) -> Result<Draft> {
        Ok(Draft(self.state.lock().unwrap().clone()))
    }

    fn connection<'a>(&self, open: &'a mut Draft) -> &'a mut Draft {
        open
    }

    async fn commit(&self, open: Draft) -> Result<()> {
        self.finish(open.0)
    }

    async fn rollback(&self, _: Draft) -> Result<(), BoxError> {
        Ok(())
    }
}

#[async_trait]
impl TransactionalOutbox for Store {
    type Tx = Draft;

    async fn append_in(&self, tx: &mut Draft, messages: &[NewMessage]) -> Result<AppendReport> {
        let messages = messages
            .iter()
            .map(|message| tx.0.append(message))
            .collect();
        Ok(AppendReport { messages })
    }
}

#[async_trait]
impl Outbox for Store {
    async fn append(&self, messages: &[NewMessage]) -> Result<AppendReport> {
        let mut open = self.begin().await?;
        let report = self.append_in(&mut open, messages).await?;
        self.commit(open).await.map(|()| report)
    }

    async fn claim(&self, _: &ClaimRequest) -> Result<ClaimReport> {
        Ok(ClaimReport::default())
    }

    async fn settle(&self, _: &[Settlement], _: Timestamp) -> Result<SettleReport> {
        Ok(SettleReport::default())
    }

    async fn extend(&self, _: &[LeaseToken], _: Timestamp) -> Result<Vec<LeaseToken>> {
        Ok(Vec::new())
    }

    async fn release(&self, _: WorkerId) -> Result<()> {
        Ok(())
    }

    async fn resume_key(&self, _: &str) -> Result<bool> {
        Ok(false)
    }

    async fn purge(&self, _: Timestamp, _: usize) -> Result<u64> {
        Ok(0)
    }

    async fn stats(&self, _: Timestamp) -> Result<OutboxStats> {
        Ok(OutboxStats::default())
    }

    fn wake(&self) -> &Wake {
        &self.wake
    }
}
