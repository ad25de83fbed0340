//! Random lives of a queue, held against a model that keeps books on who holds what.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Duration;

use outbox_core::id::{MessageId, WorkerId};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{
    DeliveryOutcome, DeliverySettlement, DequeueRequest, Queue, RecoverRequest,
};
use outbox_core::status::AttemptRecord;
use outbox_core::time::{ManualClock, Timestamp};
use outbox_sqlite::{SqliteOptions, SqliteQueue, SqliteQueueConfig, SqliteStore, Synchronous};
use proptest::prelude::*;
use proptest::sample::Index;
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const LEASE: Duration = Duration::from_secs(10);
const HIGH_WATER: usize = 60;

mod books;

use books::{Model, Standing};

/// What is done to the queue.
#[derive(Clone, Debug)]
enum Step {
    /// Enqueue messages of these numbers.
    Enqueue(Vec<u8>),
    Dequeue {
        worker: u8,
        max: usize,
    },
    Recover {
        worker: u8,
        max: usize,
    },
    /// Settle some of all receipts that were ever given, in some way each.
    Settle(Vec<(Index, How)>),
    Extend(Vec<Index>),
    Wait(u64),
}

#[derive(Clone, Copy, Debug)]
enum How {
    Done,
    Retry(u64),
    Delay(u64),
    Quarantine,
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        4 => Just(How::Done),
        2 => (0_u64..20).prop_map(How::Retry),
        2 => (0_u64..20).prop_map(How::Delay),
        1 => Just(How::Quarantine),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let settle = proptest::collection::vec((any::<Index>(), how()), 1..12);
    prop_oneof![
        3 => proptest::collection::vec(0_u8..120, 1..25).prop_map(Step::Enqueue),
        4 => (0_u8..3, 1_usize..20).prop_map(|(worker, max)| Step::Dequeue { worker, max }),
        3 => (0_u8..3, 1_usize..20).prop_map(|(worker, max)| Step::Recover { worker, max }),
        4 => settle.prop_map(Step::Settle),
        2 => proptest::collection::vec(any::<Index>(), 1..12).prop_map(Step::Extend),
        2 => (1_u64..12).prop_map(Step::Wait),
    ]
}

/// A queue with two handles that share no memory, and its books.
struct World {
    folder: TempDir,
    clock: Arc<ManualClock>,
    handles: Vec<SqliteQueue>,
    turn: usize,
    now: Timestamp,
    model: Model,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(START));
        let mut handles = Vec::new();
        for _ in 0..2 {
            let options = SqliteOptions::new(folder.path().join("queue.db"))
                .synchronous(Synchronous::Normal)
                .clock(clock.clone());
            let store = SqliteStore::open_with(options).await.unwrap();
            let config = SqliteQueueConfig {
                high_water: HIGH_WATER,
                ..SqliteQueueConfig::named("model")
            };
            handles.push(SqliteQueue::open(&store, config).await.unwrap());
        }
        Self {
            folder,
            clock,
            handles,
            turn: 0,
            now: START,
            model: Model::default(),
        }
    }

    /// The handles take turns.
    fn queue(&mut self) -> SqliteQueue {
        self.turn += 1;
        self.handles[self.turn % self.handles.len()].clone()
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Enqueue(numbers) => self.enqueue(numbers).await,
            Step::Dequeue { worker, max } => self.hand_out(*worker, *max, false).await,
            Step::Recover { worker, max } => self.hand_out(*worker, *max, true).await,
            Step::Settle(settlements) => self.settle(settlements).await,
            Step::Extend(receipts) => self.extend(receipts).await,
            Step::Wait(seconds) => {
                let wait = Duration::from_secs(*seconds);
                self.now = self.now + wait;
                self.clock.advance(wait);
            }
        }
        let stats = self.queue().stats(self.now).await.unwrap();
        assert_eq!(stats, self.model.stats(self.now));
        self.check_tables().await;
    }

    async fn enqueue(&mut self, numbers: &[u8]) {
        let messages: Vec<_> = numbers.iter().map(|number| message(*number)).collect();
        let results = self.queue().enqueue(&messages).await;
        for (message, result) in messages.iter().zip(results) {
            let expected = self.model.enqueue(message.id, self.now);
            assert_eq!(result.ok(), expected, "{}", message.id);
        }
    }

    async fn hand_out(&mut self, worker: u8, max: usize, stuck: bool) {
        let (queue, now, owner) = (self.queue(), self.now, WorkerId::from_bytes([worker; 16]));
        let report = if stuck {
            let request = RecoverRequest {
                owner,
                max,
                lease: LEASE,
                now,
            };
            queue.recover_stuck(&request).await.unwrap()
        } else {
            let request = DequeueRequest {
                owner,
                max,
                lease: LEASE,
                wait: Duration::ZERO,
                now,
            };
            queue.dequeue(&request).await.unwrap()
        };
        assert_eq!(report.unreadable, []);
        let expected = self.model.available(now, stuck).min(max);
        assert_eq!(report.deliveries.len(), expected);
        for delivery in &report.deliveries {
            assert_eq!(delivery.receipt.owner, owner);
            self.model.hand_out(delivery, now, stuck);
        }
    }

    async fn settle(&mut self, chosen: &[(Index, How)]) {
        if self.model.receipts.is_empty() {
            return;
        }
        let (mut settlements, mut lost) = (Vec::new(), Vec::new());
        for (place, (index, how)) in chosen.iter().enumerate() {
            let (receipt, id) = *index.get(&self.model.receipts);
            let outcome = outcome(*how, self.now);
            settlements.push(DeliverySettlement { receipt, outcome });
            if !self.model.settle(receipt, id, *how, self.now) {
                lost.push(place);
            }
        }
        let report = self.queue().settle(&settlements, self.now).await.unwrap();
        assert_eq!(report.lost, lost);
        assert_eq!(report.settled as usize, settlements.len() - lost.len());
    }

    async fn extend(&mut self, chosen: &[Index]) {
        if self.model.receipts.is_empty() {
            return;
        }
        let (mut receipts, mut lost) = (Vec::new(), Vec::new());
        for index in chosen {
            let (receipt, id) = *index.get(&self.model.receipts);
            receipts.push(receipt);
            if self.model.holder(receipt, id) {
                let until = self.now + LEASE;
                let entry = self.model.entries.get_mut(&id).unwrap();
                entry.standing = Standing::Held { receipt, until };
            } else {
                lost.push(receipt);
            }
        }
        let told = self.queue().extend(&receipts, LEASE, self.now).await;
        assert_eq!(told.unwrap(), lost);
    }

    /// What has to be true of the tables, whatever was done.
    async fn check_tables(&self) {
        let path = self.folder.path().join("queue.db");
        let mut connection = SqliteConnection::connect(path.to_str().unwrap())
            .await
            .unwrap();
        for (wrong, sql) in [
            (
                "handed out, but claimed by none or by several",
                "SELECT count(*) FROM outbox_entries JOIN outbox_queues ON place <= head \
                 WHERE 1 <> (SELECT count(*) FROM outbox_claims WHERE place BETWEEN low AND high)",
            ),
            (
                "claimed, but not handed out",
                "SELECT count(*) FROM outbox_claims JOIN outbox_queues USING (queue) \
                 WHERE high > head OR low > high",
            ),
            (
                "a claim of nothing",
                "SELECT count(*) FROM outbox_claims WHERE NOT EXISTS \
                 (SELECT 1 FROM outbox_entries WHERE place BETWEEN low AND high)",
            ),
            (
                "a wrong depth",
                "SELECT depth - (SELECT count(*) FROM outbox_entries) \
                 - (SELECT count(*) FROM outbox_returned) FROM outbox_queues",
            ),
            (
                "an unsettled entry whose id is forgotten",
                "SELECT count(*) FROM (SELECT place FROM outbox_entries \
                 UNION ALL SELECT place FROM outbox_returned) AS entries \
                 WHERE NOT EXISTS (SELECT 1 FROM outbox_enqueued AS e WHERE e.place = entries.place)",
            ),
        ] {
            let count: i64 = sqlx::query_scalar(sql)
                .fetch_one(&mut connection)
                .await
                .unwrap();
            assert_eq!(count, 0, "{wrong}");
        }
    }
}

fn message(number: u8) -> Message {
    let id = MessageId::from_bytes([number; 16]);
    let new = NewMessage::new("t", vec![number; usize::from(number)]);
    Message::appended(&new, id, START)
}

fn outcome(how: How, now: Timestamp) -> DeliveryOutcome {
    let failure = AttemptRecord {
        at: now,
        duration: Duration::ZERO,
        kind: "retry".to_owned(),
        error: "no".to_owned(),
    };
    match how {
        How::Done => DeliveryOutcome::Done,
        How::Retry(wait) => DeliveryOutcome::Retry {
            due_at: now + Duration::from_secs(wait),
            failure,
        },
        How::Delay(wait) => DeliveryOutcome::Delay {
            due_at: now + Duration::from_secs(wait),
        },
        How::Quarantine => DeliveryOutcome::Quarantine { failure },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_keeps_its_books_through_any_life(steps in proptest::collection::vec(step(), 1..50)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in &steps {
                world.take(step).await;
            }
        });
    }
}
