//! Random lives of an outbox with two relays on one file: whatever happens, no message is lost, each
//! is settled for good once, nobody claims what another holds, and keys keep their order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use outbox_core::delivery::Leased;
use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::message::NewMessage;
use outbox_core::ports::{ClaimRequest, Outbox, Outcome, Settlement};
use outbox_core::status::{AttemptRecord, OnFailure};
use outbox_core::time::{ManualClock, Timestamp};
use outbox_sqlite::{SqliteOptions, SqliteOutbox, Synchronous};

const LEASE: Duration = Duration::from_secs(30);
const KEYS: [&str; 4] = ["a", "b", "skipped", "parked"];
const TOPICS: [&str; 3] = ["x", "y", "z"];

struct Relay {
    owner: WorkerId,
    outbox: SqliteOutbox,
    held: Vec<Leased>,
    lease_ends: Timestamp,
}

struct World {
    chance: Entropy,
    clock: Arc<ManualClock>,
    now: Timestamp,
    relays: [Relay; 2],
    /// Every message that was appended and not settled for good.
    open: BTreeSet<MessageId>,
    /// The last published sequence of each key that keeps its order.
    published: BTreeMap<String, u64>,
    done: usize,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::from_millis(1_800_000_000_000);
        let clock = Arc::new(ManualClock::at(now));
        let options = SqliteOptions::new(folder.path().join("outbox.db"))
            .synchronous(Synchronous::Normal)
            .keep_published(seed.is_multiple_of(2))
            .clock(Arc::clone(&clock) as _)
            .entropy(Entropy::seeded(seed));
        let relay = async |number: u8| Relay {
            owner: WorkerId::from_bytes([number; 16]),
            outbox: SqliteOutbox::open_with(options.clone()).await.unwrap(),
            held: Vec::new(),
            lease_ends: Timestamp::EPOCH,
        };
        Self {
            chance: Entropy::seeded(seed),
            clock,
            now,
            relays: [relay(1).await, relay(2).await],
            open: BTreeSet::new(),
            published: BTreeMap::new(),
            done: 0,
            _folder: folder,
        }
    }

    fn below(&self, limit: usize) -> usize {
        (self.chance.next_u64() % limit as u64) as usize
    }

    fn pick<'a>(&self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    async fn step(&mut self) {
        let relay = self.below(2);
        match self.below(12) {
            0..=3 => self.append().await,
            4..=6 => self.claim(relay).await,
            7..=9 => self.settle(relay).await,
            10 => self.pass_time(),
            _ => self.rarely(relay).await,
        }
    }

    async fn append(&mut self) {
        let count = 1 + self.below(40);
        let messages: Vec<_> = (0..count).map(|_| self.message()).collect();
        let relay = self.below(2);
        let report = self.relays[relay].outbox.append(&messages).await.unwrap();
        for message in report.messages {
            assert!(!message.duplicate && self.open.insert(message.id));
        }
    }

    fn message(&self) -> NewMessage {
        let mut message = NewMessage::new(self.pick(&TOPICS), vec![b'x'; self.below(300)]);
        if self.below(3) > 0 {
            message = message.ordering_key(self.pick(&KEYS));
        }
        if self.below(6) == 0 {
            message = message.due_at(self.now + Duration::from_secs(self.below(60) as u64));
        }
        message
    }

    async fn claim(&mut self, relay: usize) {
        let paused: Vec<String> = TOPICS
            .iter()
            .filter(|_| self.below(5) == 0)
            .map(|topic| (*topic).to_owned())
            .collect();
        let max = 1 + self.below(60);
        self.claim_up_to(relay, max, paused).await;
    }

    async fn claim_up_to(&mut self, relay: usize, max: usize, paused_topics: Vec<String>) {
        let now = self.now;
        let other_ends = self.relays[1 - relay].lease_ends;
        let this = &mut self.relays[relay];
        let request = ClaimRequest {
            owner: this.owner,
            max,
            lease: LEASE,
            now,
            paused_topics,
        };
        let report = this.outbox.claim(&request).await.unwrap();
        assert!(report.unreadable.is_empty() && report.leased.len() <= max);
        assert!(report.leased.is_sorted_by(|a, b| a.token < b.token));
        if report.leased.is_empty() {
            return;
        }
        assert!(other_ends <= now, "the other's lease lives");
        if this
            .held
            .first()
            .is_some_and(|held| held.token.epoch != report.leased[0].token.epoch)
        {
            this.held.clear();
        }
        for leased in &report.leased {
            assert!(!request.paused_topics.contains(&leased.message.topic));
            assert!(leased.message.due_at <= now);
            assert!(
                self.open.contains(&leased.message.id),
                "it was settled for good"
            );
            assert!(
                this.held.iter().all(|held| held.token != leased.token),
                "claimed twice"
            );
        }
        this.held.extend(report.leased);
        this.lease_ends = now + LEASE;
    }

    /// Settles some of what a relay holds, as a relay does: per key in order, and nothing of a key
    /// behind a message that was not published.
    async fn settle(&mut self, relay: usize) {
        let mut held = std::mem::take(&mut self.relays[relay].held);
        held.sort_by_key(|leased| leased.token);
        let mut stopped = BTreeSet::new();
        let (mut settlements, mut settled, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for leased in held {
            let key = leased.message.ordering_key.clone().unwrap_or_default();
            let blocked = !key.is_empty() && stopped.contains(&key);
            if !blocked && self.below(4) == 0 {
                stopped.insert(key);
                kept.push(leased);
                continue;
            }
            let outcome = match blocked {
                true => Outcome::Release,
                false => self.outcome(&key),
            };
            if outcome != Outcome::Published {
                stopped.insert(key);
            }
            settlements.push(Settlement {
                token: leased.token,
                outcome,
            });
            settled.push(leased);
        }
        self.relays[relay].held = kept;
        let report = self.relays[relay]
            .outbox
            .settle(&settlements, self.now)
            .await
            .unwrap();
        assert_eq!(
            report.settled as usize + report.lost.len(),
            settlements.len()
        );
        for (place, leased) in settled.iter().enumerate() {
            if !report.lost.contains(&place) {
                self.note(leased, &settlements[place].outcome);
            }
        }
        if !report.lost.is_empty() {
            assert_eq!(report.settled, 0, "a lease is lost as a whole");
            self.relays[relay].held.clear();
        }
    }

    fn outcome(&self, key: &str) -> Outcome {
        let on_failure = match key {
            "skipped" => OnFailure::SkipMessage,
            "parked" => OnFailure::ParkKey,
            _ => OnFailure::BlockKey,
        };
        let failure = AttemptRecord {
            at: self.now,
            duration: Duration::from_millis(3),
            kind: "failed".to_owned(),
            error: "it did not work".to_owned(),
        };
        let later = self.now + Duration::from_secs(self.below(40) as u64);
        match self.below(10) {
            0 => Outcome::Release,
            1 => Outcome::Hold { until: later },
            2 => Outcome::Retry {
                due_at: later,
                failure,
                on_failure,
            },
            3 => Outcome::Quarantine {
                failure,
                on_failure,
            },
            _ => Outcome::Published,
        }
    }

    fn note(&mut self, leased: &Leased, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Published | Outcome::Quarantine { .. }) {
            return;
        }
        assert!(
            self.open.remove(&leased.message.id),
            "settled for good twice"
        );
        self.done += 1;
        let Some(key) = leased
            .message
            .ordering_key
            .clone()
            .filter(|key| key != "skipped")
        else {
            return;
        };
        let sequence = leased.message.sequence.0;
        let before = self.published.insert(key, sequence).unwrap_or(0);
        assert!(before < sequence, "{before} before {sequence}");
    }

    fn pass_time(&mut self) {
        self.now = self.now + Duration::from_secs(self.below(45) as u64);
        self.clock.set(self.now);
    }

    async fn rarely(&mut self, relay: usize) {
        let this = &mut self.relays[relay];
        if self.chance.next_u64().is_multiple_of(2) {
            this.outbox.release(this.owner).await.unwrap();
            this.held.clear();
            this.lease_ends = Timestamp::EPOCH;
        } else {
            this.outbox.resume_key("parked").await.unwrap();
        }
    }

    /// Everything comes to its end once nothing stands in its way.
    async fn drain(&mut self) {
        for _ in 0..5_000 {
            if self.open.is_empty() {
                break;
            }
            self.now = self.now + Duration::from_secs(31);
            self.relays[0].outbox.resume_key("parked").await.unwrap();
            self.claim_up_to(0, 100, Vec::new()).await;
            self.settle(0).await;
        }
        let stats = self.relays[1].outbox.stats(self.now).await.unwrap();
        assert_eq!((self.open.len(), stats.unsent()), (0, 0), "{stats:?}");
        assert_eq!(stats.published + stats.quarantined > 0, self.done > 0);
    }
}

async fn live(seed: u64) {
    let mut world = World::new(seed).await;
    for _ in 0..150 {
        world.step().await;
    }
    world.drain().await;
}

#[tokio::test]
async fn random_lives_lose_nothing_and_keep_order() {
    for seed in 0..10 {
        let lived = tokio::spawn(live(seed)).await;
        assert!(lived.is_ok(), "seed {seed} shows it");
    }
}
