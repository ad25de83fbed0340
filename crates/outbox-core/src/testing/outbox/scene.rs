use std::sync::Arc;
use std::time::Duration;

use super::harness::{OutboxHarness, OutboxSetup, OutboxStore};
use super::relay::Relay;
use crate::error::{BoxError, Result};
use crate::id::{Entropy, MessageId, WorkerId};
use crate::message::{Limits, NewMessage};
use crate::ports::Outbox;
use crate::status::AttemptRecord;
use crate::time::{ManualClock, Timestamp};

/// When every case begins.
pub(super) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// The smallest step of time.
pub(super) const TICK: Duration = Duration::from_micros(1);

/// `seconds` after the start.
pub(super) fn after(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

/// A message to topic `t`.
pub(super) fn message(text: &str) -> NewMessage {
    NewMessage::new("t", text.to_owned())
}

/// A message to topic `t` with an ordering key.
pub(super) fn keyed(key: &str, text: &str) -> NewMessage {
    message(text).ordering_key(key)
}

/// A message to topic `t` for each of `texts`.
pub(super) fn messages<const N: usize>(texts: [&str; N]) -> [NewMessage; N] {
    texts.map(message)
}

/// An attempt that failed at `at`.
pub(super) fn failure(at: Timestamp, error: &str) -> AttemptRecord {
    AttemptRecord {
        at,
        duration: Duration::from_millis(250),
        kind: "failed".to_owned(),
        error: error.to_owned(),
    }
}

/// A fresh store, and a relay with a handle on it.
pub(super) struct Scene {
    pub(super) store: Box<dyn OutboxStore>,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) relay: Relay,
    /// What the store's appends take their time from; stands at [`START`].
    pub(super) clock: Arc<ManualClock>,
}

impl Scene {
    /// A store with default limits that deletes what is published.
    pub(super) async fn new(harness: &dyn OutboxHarness) -> Result<Self, BoxError> {
        Self::with(harness, Limits::default(), false).await
    }

    /// A store that keeps what is published.
    pub(super) async fn keeping_published(harness: &dyn OutboxHarness) -> Result<Self, BoxError> {
        Self::with(harness, Limits::default(), true).await
    }

    pub(super) async fn with(
        harness: &dyn OutboxHarness,
        limits: Limits,
        keep_published: bool,
    ) -> Result<Self, BoxError> {
        let clock = Arc::new(ManualClock::at(START));
        let setup = OutboxSetup {
            limits,
            keep_published,
            clock: Arc::clone(&clock) as _,
            entropy: Entropy::seeded(42),
        };
        let store = harness.fresh(setup).await?;
        let outbox = store.open().await?;
        let relay = Relay::new(1, &outbox);
        Ok(Self {
            store,
            outbox,
            relay,
            clock,
        })
    }

    /// A further relay with a handle of its own, as in another process.
    pub(super) async fn relay(&self, number: u8) -> Result<Relay, BoxError> {
        Ok(Relay::new(number, &self.store.open().await?))
    }

    /// Drops all handles of the scene and opens the store again, with another relay.
    pub(super) async fn reopen(self, number: u8) -> Result<Self, BoxError> {
        let Self { store, clock, .. } = self;
        let outbox = store.open().await?;
        let relay = Relay::new(number, &outbox);
        Ok(Self {
            store,
            outbox,
            relay,
            clock,
        })
    }

    /// Appends in a transaction of its own; the ids.
    pub(super) async fn append(&self, messages: &[NewMessage]) -> Result<Vec<MessageId>> {
        let report = self.outbox.append(messages).await?;
        Ok(report.messages.iter().map(|message| message.id).collect())
    }
}

/// The identity of relay `number`.
pub(super) const fn owner(number: u8) -> WorkerId {
    WorkerId::from_bytes([number; 16])
}
