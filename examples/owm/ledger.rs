//! Keeps account of what becomes of tasks, beside the pipeline: the library's hooks tell what was
//! sent and retried, and a layer around the handler tells what took effect, and when.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use outbox::HandlerError;
use outbox::delivery::Delivery;
use outbox::id::MessageId;
use outbox::ports::{Clock, DeliveryHook, Handled, Handler};
use outbox::report::{BatchReport, Fate, Stage};
use outbox::time::{SystemClock, Timestamp};

use super::figures::{Figures, percentile};
use super::progress::Progress;

/// The account of one run of a program.
pub(crate) struct Ledger {
    /// Only the messages that were announced count; all of them where it is false.
    own_only: bool,
    progress: Option<Progress>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    own: HashMap<MessageId, Times>,
    figures: Figures,
    left_over: u64,
    problem: Option<String>,
}

#[derive(Clone, Copy, Default)]
struct Times {
    committed: Option<Timestamp>,
    handled: Option<Timestamp>,
}

impl Ledger {
    /// An account of every message that comes along.
    pub(crate) fn of_all() -> Self {
        Self {
            own_only: false,
            progress: None,
            state: Mutex::default(),
        }
    }

    /// An account of those messages that are announced: what an earlier run left in the file is
    /// handled, too, but does not confuse the figures.
    pub(crate) fn of_own(progress: Progress) -> Self {
        Self {
            own_only: true,
            progress: Some(progress),
            state: Mutex::default(),
        }
    }

    /// Announces messages, before they are persisted: they may be handled before their producer
    /// knows that they were committed.
    pub(crate) fn announce(&self, ids: impl IntoIterator<Item = MessageId>) {
        let own = ids.into_iter().map(|id| (id, Times::default()));
        self.state().own.extend(own);
    }

    /// Notes that the append of these messages has just returned.
    pub(crate) fn committed(&self, ids: impl IntoIterator<Item = MessageId>) {
        let now = SystemClock.now();
        let mut state = self.state();
        for id in ids {
            state.own.entry(id).or_default().committed = Some(now);
        }
    }

    /// Notes how a delivery was dealt with.
    fn handled(&self, delivery: &Delivery, how: Handled) {
        let now = SystemClock.now();
        let id = delivery.message.id;
        let mut state = self.state();
        if self.own_only && !state.own.contains_key(&id) {
            state.left_over += 1;
            return;
        }
        if how == Handled::Duplicate {
            state.figures.duplicates += 1;
            return;
        }
        state.figures.handled += 1;
        if let Some(times) = state.own.get_mut(&id) {
            times.handled = Some(now);
        }
        drop(state);
        if let Some(progress) = &self.progress {
            progress.advance();
        }
    }

    /// The figures so far.
    pub(crate) fn figures(&self) -> Figures {
        let state = self.state();
        let mut latencies: Vec<Duration> = state.own.values().filter_map(Times::latency).collect();
        Figures {
            p50_ms: percentile(&mut latencies, 0.50),
            p99_ms: percentile(&mut latencies, 0.99),
            ..state.figures
        }
    }

    /// How many messages of earlier runs were handled.
    pub(crate) fn left_over(&self) -> u64 {
        self.state().left_over
    }

    /// What went wrong last, where anything did.
    pub(crate) fn problem(&self) -> Option<String> {
        self.state().problem.clone()
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        if let Some(progress) = &self.progress {
            progress.end();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Times {
    fn latency(&self) -> Option<Duration> {
        Some(self.handled?.since(self.committed?))
    }
}

#[async_trait]
impl DeliveryHook for Ledger {
    async fn after_batch(&self, report: &BatchReport) {
        let mut state = self.state();
        for message in &report.messages {
            if let Some((_, text)) = &message.error {
                state.problem = Some(text.clone());
            }
            if self.own_only && !state.own.contains_key(&message.id) {
                continue;
            }
            match (report.stage, message.fate) {
                (Stage::Publish, Fate::Done) => state.figures.flushed += 1,
                (Stage::Handle, Fate::Retried) => state.figures.retried += 1,
                _ => {}
            }
        }
    }
}

/// A handler whose effects the ledger notes as soon as they are committed.
pub(crate) struct Watched<H> {
    pub(crate) handler: H,
    pub(crate) ledger: std::sync::Arc<Ledger>,
}

#[async_trait]
impl<H: Handler> Handler for Watched<H> {
    async fn handle(&self, delivery: &Delivery) -> Result<Handled, HandlerError> {
        let how = self.handler.handle(delivery).await?;
        self.ledger.handled(delivery, how);
        Ok(how)
    }
}
