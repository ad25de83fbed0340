use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outbox_core::error::BoxError;
use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::lease::{LeaseToken, Receipt};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{
    ClaimRequest, DeliveryOutcome, DeliverySettlement, DequeueRequest, Outbox, Outcome, Queue,
    Settlement,
};
use outbox_core::status::OnFailure;
use outbox_core::time::{ManualClock, Timestamp};

use super::given::{LEASE, SECOND, START, after, failure, redrive_all, texts};
use super::harness::{DlqHarness, DlqSetup, DlqStore};
use crate::{DeadLetter, DlqHeap, Filter, LetterId, Origin, Page, Quarantine, RedriveReport};

const WORKER: WorkerId = WorkerId::from_bytes([1; 16]);

/// What is tried: messages that cannot be published, or deliveries that cannot be handled.
pub(super) enum Side {
    Outbox(Arc<dyn Outbox>),
    Queue(Arc<dyn Queue>),
}

/// The proof that a message is held.
#[derive(Clone, Copy)]
enum Proof {
    Token(LeaseToken),
    Receipt(Receipt),
}

/// A message in flight.
#[derive(Clone)]
pub(super) struct Taken {
    pub(super) message: Message,
    pub(super) attempt: u32,
    proof: Proof,
}

/// A fresh store, one side of it, and handles.
pub(super) struct Scene {
    pub(super) store: Box<dyn DlqStore>,
    pub(super) heap: Arc<dyn DlqHeap>,
    pub(super) quarantine: Arc<dyn Quarantine>,
    pub(super) side: Side,
    pub(super) origin: Origin,
    pub(super) clock: Arc<ManualClock>,
    entropy: Entropy,
}

/// A scene for each side that the backend has.
pub(super) async fn sides(harness: &dyn DlqHarness) -> Result<Vec<Scene>, BoxError> {
    let capabilities = harness.capabilities();
    let mut scenes = Vec::new();
    if capabilities.outbox {
        scenes.push(Scene::new(harness, Origin::Outbox).await?);
    }
    if capabilities.queue {
        scenes.push(Scene::new(harness, Origin::Queue("kit".to_owned())).await?);
    }
    Ok(scenes)
}

/// A scene for any one side.
pub(super) async fn any_side(harness: &dyn DlqHarness) -> Result<Scene, BoxError> {
    let mut sides = sides(harness).await?;
    sides.pop().ok_or_else(|| "a backend has a side".into())
}

impl Scene {
    pub(super) async fn new(harness: &dyn DlqHarness, origin: Origin) -> Result<Self, BoxError> {
        Self::with_high_water(harness, origin, None).await
    }

    /// A scene whose queue takes so many unsettled entries.
    pub(super) async fn with_high_water(
        harness: &dyn DlqHarness,
        origin: Origin,
        high_water: Option<usize>,
    ) -> Result<Self, BoxError> {
        let clock = Arc::new(ManualClock::at(START));
        // Ids of one store are none of another's.
        static STORES: AtomicU64 = AtomicU64::new(0);
        let entropy = Entropy::seeded(STORES.fetch_add(1, Ordering::Relaxed));
        let setup = DlqSetup {
            clock: Arc::clone(&clock) as _,
            entropy: entropy.clone(),
            high_water,
        };
        let store = harness.fresh(setup).await?;
        let side = match &origin {
            Origin::Outbox => Side::Outbox(store.outbox().await?),
            Origin::Queue(_) => Side::Queue(store.queue().await?),
        };
        Ok(Self {
            heap: store.heap().await?,
            quarantine: store.quarantine().await?,
            store,
            side,
            origin,
            clock,
            entropy,
        })
    }

    /// What ids are made from.
    pub(super) fn entropy(&self) -> Entropy {
        self.entropy.clone()
    }

    /// Adds `messages`; their ids.
    pub(super) async fn put(&self, messages: &[NewMessage]) -> Result<Vec<MessageId>, BoxError> {
        let identify = |new: &NewMessage| new.clone().identify(START, &self.entropy);
        let messages: Vec<_> = messages.iter().map(identify).collect();
        match &self.side {
            Side::Outbox(outbox) => {
                outbox.append(&messages).await?;
            }
            Side::Queue(queue) => {
                let appended = messages.iter().filter_map(|new| {
                    let id = new.id?;
                    Some(Message::appended(new, id, START))
                });
                for result in queue.enqueue(&appended.collect::<Vec<_>>()).await {
                    result?;
                }
            }
        }
        Ok(messages.iter().filter_map(|new| new.id).collect())
    }

    /// Takes up to `max` messages at `now`.
    pub(super) async fn take(&self, max: usize, now: Timestamp) -> Result<Vec<Taken>, BoxError> {
        match &self.side {
            Side::Outbox(outbox) => {
                let request = ClaimRequest {
                    owner: WORKER,
                    max,
                    lease: LEASE,
                    now,
                    paused_topics: Vec::new(),
                };
                let leased = outbox.claim(&request).await?.leased.into_iter();
                let taken = leased.map(|leased| Taken {
                    proof: Proof::Token(leased.token),
                    attempt: leased.attempt,
                    message: leased.message,
                });
                Ok(taken.collect())
            }
            Side::Queue(queue) => {
                let request = DequeueRequest {
                    owner: WORKER,
                    max,
                    lease: LEASE,
                    wait: Duration::ZERO,
                    now,
                };
                let deliveries = queue.dequeue(&request).await?.deliveries.into_iter();
                let taken = deliveries.map(|delivery| Taken {
                    proof: Proof::Receipt(delivery.receipt),
                    attempt: delivery.attempt,
                    message: Arc::unwrap_or_clone(delivery.message),
                });
                Ok(taken.collect())
            }
        }
    }

    async fn settle(
        &self,
        taken: &[Taken],
        (published, done): (Outcome, DeliveryOutcome),
        now: Timestamp,
    ) -> Result<(), BoxError> {
        let report = match &self.side {
            Side::Outbox(outbox) => {
                let settlements = taken.iter().filter_map(|taken| match taken.proof {
                    Proof::Token(token) => Some(Settlement {
                        token,
                        outcome: published.clone(),
                    }),
                    Proof::Receipt(_) => None,
                });
                outbox.settle(&settlements.collect::<Vec<_>>(), now).await?
            }
            Side::Queue(queue) => {
                let settlements = taken.iter().filter_map(|taken| match taken.proof {
                    Proof::Receipt(receipt) => Some(DeliverySettlement {
                        receipt,
                        outcome: done.clone(),
                    }),
                    Proof::Token(_) => None,
                });
                queue.settle(&settlements.collect::<Vec<_>>(), now).await?
            }
        };
        if report.lost.is_empty() {
            return Ok(());
        }
        Err(format!("a settlement was lost: {report:?}").into())
    }

    /// Fails what was taken, to be tried again a second later.
    pub(super) async fn retry(
        &self,
        taken: &[Taken],
        error: &str,
        now: Timestamp,
    ) -> Result<(), BoxError> {
        let (due_at, failure) = (now + SECOND, failure(now, error));
        let published = Outcome::Retry {
            due_at,
            failure: failure.clone(),
            on_failure: OnFailure::BlockKey,
        };
        let done = DeliveryOutcome::Retry { due_at, failure };
        self.settle(taken, (published, done), now).await
    }

    /// Gives up what was taken.
    pub(super) async fn give_up(
        &self,
        taken: &[Taken],
        error: &str,
        now: Timestamp,
    ) -> Result<(), BoxError> {
        self.give_up_and(taken, (error, OnFailure::BlockKey), now)
            .await
    }

    /// Gives up what was taken; `on_failure` says what happens to its key.
    pub(super) async fn give_up_and(
        &self,
        taken: &[Taken],
        (error, on_failure): (&str, OnFailure),
        now: Timestamp,
    ) -> Result<(), BoxError> {
        let failure = failure(now, error);
        let published = Outcome::Quarantine {
            failure: failure.clone(),
            on_failure,
        };
        let done = DeliveryOutcome::Quarantine { failure };
        self.settle(taken, (published, done), now).await
    }

    /// Delivers what was taken.
    pub(super) async fn deliver(&self, taken: &[Taken], now: Timestamp) -> Result<(), BoxError> {
        let outcome = (Outcome::Published, DeliveryOutcome::Done);
        self.settle(taken, outcome, now).await
    }

    /// Whoever holds anything stops.
    pub(super) async fn stop(&self) -> Result<(), BoxError> {
        if let Side::Outbox(outbox) = &self.side {
            outbox.release(WORKER).await?;
        }
        Ok(())
    }

    /// Adds `messages`, and gives all up with `error` at `now`.
    pub(super) async fn bury(
        &self,
        messages: &[NewMessage],
        error: &str,
        now: Timestamp,
    ) -> Result<Vec<MessageId>, BoxError> {
        let ids = self.put(messages).await?;
        let mut left = messages.len();
        while left > 0 {
            let taken = self.take(left, now).await?;
            if taken.is_empty() {
                return Err("a message was not handed out".into());
            }
            left -= taken.len();
            self.give_up(&taken, error, now).await?;
        }
        self.stop().await?;
        Ok(ids)
    }

    /// Adds `messages`, and fails each once at `now`.
    pub(super) async fn fail(
        &self,
        messages: &[NewMessage],
        now: Timestamp,
    ) -> Result<Vec<MessageId>, BoxError> {
        let ids = self.put(messages).await?;
        let taken = self.take(messages.len(), now).await?;
        self.retry(&taken, "no luck", now).await?;
        self.stop().await?;
        Ok(ids)
    }

    /// Delivers everything that can be delivered at `now`, in its order; the payloads.
    pub(super) async fn deliver_all(&self, now: Timestamp) -> Result<Vec<String>, BoxError> {
        let mut delivered = Vec::new();
        for _ in 0..100 {
            let taken = self.take(7, now).await?;
            if taken.is_empty() {
                break;
            }
            delivered.extend(texts(taken.iter().map(|taken| &taken.message)));
            self.deliver(&taken, now).await?;
        }
        self.stop().await?;
        Ok(delivered)
    }

    /// How many messages are not delivered and not in quarantine.
    pub(super) async fn undelivered(&self) -> Result<u64, BoxError> {
        Ok(match &self.side {
            Side::Outbox(outbox) => outbox.stats(after(3_600)).await?.unsent(),
            Side::Queue(queue) => queue.stats(after(3_600)).await?.depth(),
        })
    }

    /// How many dead letters there are, how many undelivered messages, and how many the audit tells
    /// of, at one moment: a call that was dropped may still take effect while this looks.
    pub(super) async fn whereabouts(&self) -> Result<(u64, u64, u64), BoxError> {
        loop {
            let before = self.letters().await?.len();
            let undelivered = self.undelivered().await?;
            let audit = self.quarantine.audit(0, 100).await?;
            if self.letters().await?.len() == before {
                let audited = audit.iter().map(|record| record.letters).sum();
                return Ok((before as u64, undelivered, audited));
            }
        }
    }

    /// All dead letters.
    pub(super) async fn letters(&self) -> Result<Vec<DeadLetter>, BoxError> {
        self.list(&Filter::default()).await
    }

    /// The dead letters that `filter` means, on one page.
    pub(super) async fn list(&self, filter: &Filter) -> Result<Vec<DeadLetter>, BoxError> {
        Ok(self
            .quarantine
            .list(filter, Page::first(5_000))
            .await?
            .letters)
    }

    /// The numbers of all dead letters.
    pub(super) async fn numbers(&self) -> Result<Vec<LetterId>, BoxError> {
        Ok(self
            .letters()
            .await?
            .iter()
            .map(|letter| letter.id)
            .collect())
    }

    /// The only dead letter.
    pub(super) async fn only_letter(&self) -> Result<DeadLetter, BoxError> {
        let mut letters = self.letters().await?;
        match (letters.pop(), letters.is_empty()) {
            (Some(letter), true) => Ok(letter),
            (letter, _) => Err(format!("one dead letter: {letter:?}, {letters:?}").into()),
        }
    }

    /// Redrives everything at `now`.
    pub(super) async fn redrive(&self, now: Timestamp) -> Result<RedriveReport, BoxError> {
        Ok(self.quarantine.redrive(&redrive_all(now)).await?)
    }
}
