//! A queue, its dead letters, and those who look after them.

use std::collections::BTreeSet;
use std::time::Duration;

use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{
    DeliveryOutcome, DeliverySettlement, DequeueRequest, Queue, RecoverRequest,
};
use outbox_core::status::AttemptRecord;
use outbox_core::time::{Clock, SystemClock, Timestamp};
use outbox_dlq::{
    Action, ActionId, Attempts, CountRequest, DeadLetter, DlqEntry, Failure, Filter, Origin, Page,
    Quarantine, RedriveRequest, Subject,
};
use outbox_redis::RedisStore;
use outbox_redis::{RedisDlqHeap, RedisOptions, RedisQuarantine, RedisQueue, RedisQueueConfig};
use outbox_redis_harness::BoxError;

pub(crate) type Tested = Result<(), BoxError>;

/// How long everything is leased and claimed.
pub(crate) const LEASE: Duration = Duration::from_millis(500);

/// All parts of a queue, behind one connection.
pub(crate) struct Scene {
    pub(crate) queue: RedisQueue,
    pub(crate) quarantine: RedisQuarantine,
    pub(crate) heap: RedisDlqHeap,
    owner: WorkerId,
}

pub(crate) fn messages(numbers: std::ops::Range<u64>) -> Vec<Message> {
    let message = |number: u64| {
        let mut bytes = [7; 16];
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        let new = NewMessage::new("tasks", number.to_string());
        Message::appended(&new, MessageId::from_bytes(bytes), SystemClock.now())
    };
    numbers.map(message).collect()
}

pub(crate) fn subject(id: MessageId) -> Subject {
    Subject {
        origin: Origin::Queue("tasks".to_owned()),
        id,
    }
}

pub(crate) fn failure(id: MessageId) -> Failure {
    Failure {
        subject: subject(id),
        at: SystemClock.now(),
        kind: "failed".to_owned(),
        error: "no luck".to_owned(),
    }
}

/// What a heap may have drained of a message.
pub(crate) fn entry(message: &Message) -> DlqEntry {
    let Failure {
        subject,
        at,
        kind,
        error,
    } = failure(message.id);
    DlqEntry {
        subject,
        failures: 5,
        first_failed_at: at,
        last_failed_at: at,
        kind,
        error,
        claim: 1,
    }
}

pub(crate) fn action(number: u64) -> Action {
    Action {
        id: ActionId(number),
        by: "ada".to_owned(),
        reason: String::new(),
    }
}

/// A redrive of everything.
pub(crate) fn redrive_all(max: usize) -> RedriveRequest {
    RedriveRequest {
        filter: Filter::default(),
        after: None,
        max,
        attempts: Attempts::Reset,
        max_redrives: None,
        dry_run: false,
        action: action(1),
        now: SystemClock.now(),
    }
}

impl Scene {
    /// Everything at `url`, giving up on commands soon.
    pub(crate) async fn at(url: &str) -> Result<Self, BoxError> {
        let options = RedisOptions::new(url)
            .command_timeout(Duration::from_millis(400))
            .reconnect(Duration::from_millis(10), Duration::from_millis(50));
        let store = RedisStore::open_with(options).await?;
        let queue = RedisQueue::open(&store, RedisQueueConfig::default()).await?;
        Ok(Self {
            quarantine: RedisQuarantine::of(&queue),
            queue,
            heap: RedisDlqHeap::new(&store, "tasks")?,
            owner: WorkerId::new(&Entropy::from_system()),
        })
    }

    pub(crate) async fn enqueue(&self, batch: &[Message]) -> Tested {
        for result in self.queue.enqueue(batch).await {
            result?;
        }
        Ok(())
    }

    /// Takes what is there, and settles all of it; the ids.
    pub(crate) async fn settle(
        &self,
        outcome: &DeliveryOutcome,
    ) -> Result<Vec<MessageId>, BoxError> {
        let now = SystemClock.now();
        let request = DequeueRequest {
            owner: self.owner,
            max: 500,
            lease: LEASE,
            wait: Duration::ZERO,
            now,
        };
        let recover = RecoverRequest {
            owner: self.owner,
            max: 500,
            lease: LEASE,
            now,
        };
        let mut taken = self.queue.dequeue(&request).await?.deliveries;
        taken.extend(self.queue.recover_stuck(&recover).await?.deliveries);
        let settle = |delivery: &outbox_core::delivery::Delivery| DeliverySettlement {
            receipt: delivery.receipt,
            outcome: outcome.clone(),
        };
        let settlements: Vec<_> = taken.iter().map(settle).collect();
        let report = self.queue.settle(&settlements, now).await?;
        assert_eq!(report.lost, [0; 0]);
        Ok(taken.iter().map(|delivery| delivery.message.id).collect())
    }

    /// Adds messages, and fails each once; they come back in an hour.
    pub(crate) async fn fail(&self, batch: &[Message]) -> Tested {
        self.enqueue(batch).await?;
        let due_at = SystemClock.now() + Duration::from_secs(3_600);
        let retry = DeliveryOutcome::Retry {
            due_at,
            failure: attempt("no luck"),
        };
        while !self.settle(&retry).await?.is_empty() {}
        Ok(())
    }

    /// Adds messages, and gives all of them up.
    pub(crate) async fn bury(&self, batch: &[Message]) -> Tested {
        self.enqueue(batch).await?;
        self.give_up("never").await
    }

    /// Gives up what is there.
    pub(crate) async fn give_up(&self, error: &str) -> Tested {
        let quarantine = DeliveryOutcome::Quarantine {
            failure: attempt(error),
        };
        while !self.settle(&quarantine).await?.is_empty() {}
        Ok(())
    }

    /// Handles what is there; the ids, in their order.
    pub(crate) async fn handle_all(&self) -> Result<Vec<MessageId>, BoxError> {
        let mut handled = Vec::new();
        loop {
            let some = self.settle(&DeliveryOutcome::Done).await?;
            if some.is_empty() {
                return Ok(handled);
            }
            handled.extend(some);
        }
    }

    /// All dead letters.
    pub(crate) async fn letters(&self) -> Result<Vec<DeadLetter>, BoxError> {
        let (mut letters, mut page) = (Vec::new(), Page::first(1_000));
        loop {
            let listing = self.quarantine.list(&Filter::default(), page).await?;
            letters.extend(listing.letters);
            page.after = listing.next;
            if page.after.is_none() {
                return Ok(letters);
            }
        }
    }

    /// How many dead letters there are, and how many unsettled messages.
    pub(crate) async fn whereabouts(&self) -> Result<(u64, u64), BoxError> {
        let request = CountRequest {
            filter: Filter::default(),
            max: 1,
        };
        let resting = self.quarantine.count(&request).await?.total;
        Ok((resting, self.queue.stats(SystemClock.now()).await?.depth()))
    }
}

fn attempt(error: &str) -> AttemptRecord {
    AttemptRecord {
        at: SystemClock.now(),
        duration: Duration::from_millis(1),
        kind: "failed".to_owned(),
        error: error.to_owned(),
    }
}

pub(crate) fn ids(batch: &[Message]) -> BTreeSet<MessageId> {
    batch.iter().map(|message| message.id).collect()
}

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}
