//! Whatever is done with deliveries in whatever order, who holds what is as a simple model has it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::lease::Receipt;
use outbox_core::ports::{
    DeliveryOutcome, DeliverySettlement, DequeueReport, Queue, RecoverRequest,
};
use outbox_core::time::{Clock, SystemClock};
use outbox_redis::{RedisQueue, RedisQueueConfig};
use outbox_redis_harness::RedisServer;
use tokio::time::sleep;

use crate::scene::{Tested, enqueue_all, messages, queue_with, request, worker};

/// Longer than a history takes, and over at once.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(1);

const STEPS: u64 = 120;

struct Model {
    seed: u64,
    queue: RedisQueue,
    entropy: Entropy,
    workers: [WorkerId; 3],
    enqueued: u64,
    /// Of each receipt that settles something: its message, and whether its lease goes on.
    live: HashMap<Receipt, (MessageId, bool)>,
    /// All receipts that there were.
    known: Vec<Receipt>,
    done: BTreeSet<MessageId>,
}

impl Model {
    fn below(&self, end: u64) -> u64 {
        self.entropy.next_u64() % end
    }

    fn anybody(&self) -> WorkerId {
        self.workers[self.below(3) as usize]
    }

    /// Some receipts, old and new, most of the last ones, a few of them twice.
    fn some(&self) -> Vec<Receipt> {
        let last = self.known.len().saturating_sub(12);
        let mut some: Vec<_> = self.known[last..].to_vec();
        some.retain(|_| self.below(3) > 0);
        for _ in 0..self.below(6) {
            let any = self.below(self.known.len().max(1) as u64) as usize;
            some.extend(self.known.get(any));
        }
        some
    }

    fn take_in(&mut self, report: &DequeueReport, goes_on: bool) {
        assert!(report.unreadable.is_empty());
        for delivery in &report.deliveries {
            let is = (delivery.message.id, goes_on);
            let before = self.live.insert(delivery.receipt, is);
            assert_eq!(before, None, "a receipt is given once");
            self.known.push(delivery.receipt);
        }
    }

    async fn dequeue(&mut self) -> Tested {
        let count = self.below(7);
        enqueue_all(&self.queue, &messages(self.enqueued..self.enqueued + count)).await?;
        self.enqueued += count;
        let mut asked = request(self.anybody(), Duration::ZERO);
        asked.max = 1 + self.below(6) as usize;
        let goes_on = self.below(3) > 0;
        asked.lease = if goes_on { LONG } else { SHORT };
        let report = self.queue.dequeue(&asked).await?;
        self.take_in(&report, goes_on);
        Ok(())
    }

    async fn settle(&mut self) -> Tested {
        let now = SystemClock.now();
        let settle = |receipt: Receipt| DeliverySettlement {
            receipt,
            outcome: match self.below(4) {
                0 => DeliveryOutcome::Delay { due_at: now },
                _ => DeliveryOutcome::Done,
            },
        };
        let settling: Vec<_> = self.some().into_iter().map(settle).collect();
        let mut lost = Vec::new();
        for (place, settlement) in settling.iter().enumerate() {
            match self.live.remove(&settlement.receipt) {
                Some((id, _)) if settlement.outcome == DeliveryOutcome::Done => {
                    assert!(self.done.insert(id), "done twice");
                }
                Some(_) => {}
                None => lost.push(place),
            }
        }
        let report = self.queue.settle(&settling, now).await?;
        assert_eq!(report.lost, lost, "seed {}", self.seed);
        Ok(())
    }

    async fn extend(&mut self) -> Tested {
        let mut some = self.some();
        let mut met = HashSet::new();
        some.retain(|receipt| met.insert(*receipt));
        let mut lost = some.clone();
        lost.retain(|receipt| !self.live.contains_key(receipt));
        for receipt in &some {
            if let Some((_, goes_on)) = self.live.get_mut(receipt) {
                *goes_on = true;
            }
        }
        let told = self.queue.extend(&some, LONG, SystemClock.now()).await?;
        assert_eq!(told, lost, "seed {}", self.seed);
        Ok(())
    }

    async fn recover(&mut self) -> Tested {
        sleep(2 * SHORT).await;
        let request = RecoverRequest {
            owner: self.anybody(),
            max: 1_000,
            lease: LONG,
            now: SystemClock.now(),
        };
        let report = self.queue.recover_stuck(&request).await?;
        let found: BTreeSet<_> = report.deliveries.iter().map(|one| one.message.id).collect();
        let over = self.live.values().filter(|(_, goes_on)| !goes_on);
        assert_eq!(
            found,
            over.map(|(id, _)| *id).collect(),
            "seed {}",
            self.seed
        );
        self.live.retain(|_, (_, goes_on)| *goes_on);
        self.take_in(&report, true);
        Ok(())
    }

    async fn run(mut self) -> Tested {
        for _ in 0..STEPS {
            match self.below(8) {
                0..=2 => self.dequeue().await?,
                3..=5 => self.settle().await?,
                6 => self.extend().await?,
                _ => self.recover().await?,
            }
        }
        let stats = self.queue.stats(SystemClock.now()).await?;
        assert_eq!(
            stats.in_flight,
            self.live.len() as u64,
            "seed {}",
            self.seed
        );
        let unsettled = self.enqueued - self.done.len() as u64;
        assert_eq!(stats.depth(), unsettled, "seed {}", self.seed);
        Ok(())
    }
}

#[tokio::test]
async fn who_holds_what_is_as_the_model_has_it_in_batches_of_any_size() -> Tested {
    let server = RedisServer::start(&[]).await?;
    for seed in 0..24 {
        let config = RedisQueueConfig {
            batch_lease_from: [1, 3, 17][seed as usize % 3],
            ..RedisQueueConfig::named(format!("seed {seed}"))
        };
        let model = Model {
            seed,
            queue: queue_with(&server.url(), config).await?,
            entropy: Entropy::seeded(seed),
            workers: [worker(), worker(), worker()],
            enqueued: 0,
            live: HashMap::new(),
            known: Vec::new(),
            done: BTreeSet::new(),
        };
        model.run().await?;
    }
    Ok(())
}
