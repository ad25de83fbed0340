//! Fresh messages beside a backlog: those without a key do not wait for its end, nor where they come
//! back, keys keep their order, and none is handed out twice or passed over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use outbox_core::delivery::Leased;
use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::message::NewMessage;
use outbox_core::ports::{ClaimRequest, Outbox, Outcome, Settlement};
use outbox_core::status::{AttemptRecord, OnFailure};
use outbox_core::time::{Clock, SystemClock, Timestamp};
use outbox_sqlite::{SqliteOptions, SqliteOutbox, Synchronous};

const OWNER: WorkerId = WorkerId::from_bytes([1; 16]);
const MAX: usize = 10;
/// So many claims bring a fresh message at the latest, once there is a backlog: its turn comes each
/// fourth time, and may have been while it was appended.
const SOON: usize = 8;

async fn outbox(folder: &tempfile::TempDir, seed: u64) -> SqliteOutbox {
    let options = SqliteOptions::new(folder.path().join("outbox.db"))
        .synchronous(Synchronous::Normal)
        .keep_published(seed.is_multiple_of(2))
        .entropy(Entropy::seeded(seed));
    SqliteOutbox::open_with(options).await.unwrap()
}

fn now() -> Timestamp {
    SystemClock.now()
}

async fn claim(outbox: &SqliteOutbox, at: Timestamp) -> Vec<Leased> {
    let request = ClaimRequest {
        owner: OWNER,
        max: MAX,
        lease: Duration::from_secs(600),
        now: at,
        paused_topics: Vec::new(),
    };
    outbox.claim(&request).await.unwrap().leased
}

async fn append(outbox: &SqliteOutbox, messages: &[NewMessage]) -> Vec<MessageId> {
    let report = outbox.append(messages).await.unwrap();
    report.messages.iter().map(|message| message.id).collect()
}

async fn settle_all(outbox: &SqliteOutbox, leased: &[Leased], outcome: Outcome, at: Timestamp) {
    let settlement = |one: &Leased| Settlement {
        token: one.token,
        outcome: outcome.clone(),
    };
    let settlements: Vec<_> = leased.iter().map(settlement).collect();
    let report = outbox.settle(&settlements, at).await.unwrap();
    assert_eq!(report.settled as usize, leased.len());
}

/// How many claims it takes until `wanted` comes.
async fn claims_until(outbox: &SqliteOutbox, wanted: MessageId, at: Timestamp) -> usize {
    for count in 1.. {
        let leased = claim(outbox, at).await;
        assert!(!leased.is_empty(), "it never came");
        settle_all(outbox, &leased, Outcome::Published, at).await;
        if leased.iter().any(|one| one.message.id == wanted) {
            return count;
        }
    }
    0
}

fn backlog(count: usize) -> Vec<NewMessage> {
    let message = |number: usize| match number % 2 {
        0 => NewMessage::new("old", "x").ordering_key(format!("key {}", number % 7)),
        _ => NewMessage::new("old", "x"),
    };
    (0..count).map(message).collect()
}

/// Begins to drain a long backlog.
async fn drain_a_backlog(outbox: &SqliteOutbox, at: Timestamp) {
    append(outbox, &backlog(1_000)).await;
    for _ in 0..12 {
        let leased = claim(outbox, at).await;
        settle_all(outbox, &leased, Outcome::Published, at).await;
    }
}

#[tokio::test]
async fn a_fresh_message_without_a_key_does_not_wait_for_the_end_of_a_backlog() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(&folder, 1).await;
    drain_a_backlog(&outbox, now()).await;
    let fresh = NewMessage::new("fresh", "x");
    let keyed = fresh.clone().ordering_key("key 0");
    let ids = append(&outbox, &[fresh, keyed]).await;
    let took = claims_until(&outbox, ids[0], now()).await;
    assert!(took <= SOON, "{took} claims");
    let took = claims_until(&outbox, ids[1], now()).await;
    assert!(
        took >= 80,
        "it overtook the backlog of its key: {took} claims"
    );
}

#[tokio::test]
async fn a_fresh_message_is_found_behind_many_keyed_ones() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(&folder, 1).await;
    drain_a_backlog(&outbox, now()).await;
    let keyed = vec![NewMessage::new("fresh", "x").ordering_key("key 0"); 10 * MAX];
    append(&outbox, &keyed).await;
    let ids = append(&outbox, &[NewMessage::new("fresh", "x")]).await;
    let took = claims_until(&outbox, ids[0], now()).await;
    // One look goes through the keyed ones of four claims.
    assert!(took <= 3 * SOON, "{took} claims");
}

/// The outcomes by which a message comes back after one second, and at once.
fn ways_back(at: Timestamp) -> [Outcome; 3] {
    let due_at = at + Duration::from_secs(1);
    let failure = AttemptRecord {
        at,
        duration: Duration::ZERO,
        kind: "failed".to_owned(),
        error: "it did not work".to_owned(),
    };
    let on_failure = OnFailure::BlockKey;
    let retry = Outcome::Retry {
        due_at,
        failure,
        on_failure,
    };
    [retry, Outcome::Hold { until: due_at }, Outcome::Release]
}

#[tokio::test]
async fn a_fresh_message_that_comes_back_does_not_go_behind_the_backlog() {
    let (at, later) = (now(), now() + Duration::from_secs(1));
    for outcome in ways_back(at) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(&folder, 1).await;
        drain_a_backlog(&outbox, at).await;
        let ids = append(&outbox, &[NewMessage::new("fresh", "x")]).await;
        let leased = loop {
            let leased = claim(&outbox, at).await;
            if leased.iter().any(|one| one.message.id == ids[0]) {
                break leased;
            }
            settle_all(&outbox, &leased, Outcome::Published, at).await;
        };
        settle_all(&outbox, &leased, outcome.clone(), at).await;
        let took = claims_until(&outbox, ids[0], later).await;
        assert!(took <= SOON, "{took} claims after {outcome:?}");
        // The rest of the backlog comes, and the message no second time.
        for _ in took..100 {
            let leased = claim(&outbox, later).await;
            settle_all(&outbox, &leased, Outcome::Published, later).await;
        }
        assert_eq!(outbox.stats(later).await.unwrap().unsent(), 0);
    }
}

#[tokio::test]
async fn a_backlog_that_waited_for_its_destination_holds_up_no_fresh_message() {
    let folder = tempfile::tempdir().unwrap();
    let outbox = outbox(&folder, 1).await;
    append(&outbox, &backlog(1_000)).await;
    let (at, later) = (now(), now() + Duration::from_secs(5));
    loop {
        let leased = claim(&outbox, at).await;
        if leased.is_empty() {
            break;
        }
        settle_all(&outbox, &leased, Outcome::Hold { until: later }, at).await;
    }
    // Whoever comes next knows nothing of what waits.
    outbox.release(OWNER).await.unwrap();
    let first = claim(&outbox, later).await;
    assert!(!first.is_empty());
    settle_all(&outbox, &first, Outcome::Published, later).await;
    let ids = append(&outbox, &[NewMessage::new("fresh", "x")]).await;
    let took = claims_until(&outbox, ids[0], later).await;
    assert!(took <= SOON, "{took} claims");
}

struct Life {
    chance: Entropy,
    outbox: SqliteOutbox,
    at: Timestamp,
    open: BTreeSet<MessageId>,
    held: Vec<Leased>,
    /// Keys whose messages went back while those that are held were being claimed.
    barred: BTreeSet<String>,
    /// The last published sequence of each key.
    published: BTreeMap<String, u64>,
}

impl Life {
    fn below(&self, limit: usize) -> usize {
        (self.chance.next_u64() % limit as u64) as usize
    }

    async fn append(&mut self, count: usize) {
        let message = |_| match self.below(3) {
            0 => NewMessage::new("t", "x").ordering_key(format!("{}", self.below(20))),
            _ => NewMessage::new("t", "x"),
        };
        let messages: Vec<_> = (0..count).map(message).collect();
        self.open.extend(append(&self.outbox, &messages).await);
    }

    fn outcome(&self, stopped: bool) -> Outcome {
        let due_at = self.at + Duration::from_secs(self.below(3) as u64);
        match self.below(12) {
            _ if stopped => Outcome::Release,
            0 => Outcome::Release,
            1 => Outcome::Retry {
                due_at,
                failure: AttemptRecord {
                    at: self.at,
                    duration: Duration::ZERO,
                    kind: "failed".to_owned(),
                    error: "it did not work".to_owned(),
                },
                on_failure: OnFailure::BlockKey,
            },
            _ => Outcome::Published,
        }
    }

    /// Settles what is held while the next claim reads, as a relay does, and checks both. After a
    /// claim that brought messages of keys that were going back, the next one waits until they are.
    async fn turn(&mut self) {
        let all = std::mem::take(&mut self.held);
        // Some take longer than others.
        let is_slow = |one: &Leased| one.message.ordering_key.is_none() && self.below(4) > 0;
        let (slow, held): (Vec<_>, Vec<_>) = all.into_iter().partition(is_slow);
        let mut stopped = std::mem::take(&mut self.barred);
        let chasing = held.iter().any(|one| is_of(one, &stopped));
        let mut settlements = Vec::new();
        for one in &held {
            let outcome = self.outcome(is_of(one, &stopped));
            if outcome != Outcome::Published {
                stopped.extend(one.message.ordering_key.clone());
            }
            let token = one.token;
            settlements.push(Settlement { token, outcome });
        }
        let settling = self.outbox.settle(&settlements, self.at);
        let (settled, claimed) = match chasing {
            true => (settling.await, claim(&self.outbox, self.at).await),
            false => tokio::join!(settling, claim(&self.outbox, self.at)),
        };
        assert_eq!(settled.unwrap().lost, Vec::<usize>::new());
        for (one, settlement) in held.iter().zip(&settlements) {
            if settlement.outcome == Outcome::Published {
                self.note_published(one);
            }
        }
        for one in &claimed {
            let open = self.open.contains(&one.message.id);
            assert!(open, "it was published before");
            let is_held = slow.iter().any(|held| held.token == one.token);
            assert!(!is_held, "it is handed out already");
        }
        self.held = claimed;
        self.held.extend(slow);
        self.held.sort_by_key(|one| one.token);
        if !chasing {
            self.barred = stopped;
        }
    }

    fn note_published(&mut self, one: &Leased) {
        assert!(self.open.remove(&one.message.id), "published twice");
        let Some(key) = one.message.ordering_key.clone() else {
            return;
        };
        let sequence = one.message.sequence.0;
        let before = self.published.insert(key, sequence).unwrap_or(0);
        assert!(before < sequence, "{before} before {sequence}");
    }
}

fn is_of(one: &Leased, keys: &BTreeSet<String>) -> bool {
    let key = one.message.ordering_key.as_ref();
    key.is_some_and(|key| keys.contains(key))
}

async fn live(seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Life {
        chance: Entropy::seeded(seed),
        outbox: outbox(&folder, seed).await,
        at: now(),
        open: BTreeSet::new(),
        held: Vec::new(),
        barred: BTreeSet::new(),
        published: BTreeMap::new(),
    };
    life.append(600).await;
    for turn in 0..3_000 {
        if turn < 100 {
            life.append(life.below(4)).await;
        }
        life.turn().await;
        life.at = life.at + Duration::from_millis(life.below(300) as u64);
        if life.open.is_empty() && life.held.is_empty() {
            return;
        }
    }
    panic!("{} messages never came", life.open.len());
}

#[tokio::test]
async fn beside_a_backlog_nothing_is_handed_out_twice_or_out_of_order_or_never() {
    for seed in 0..12 {
        let lived = tokio::spawn(live(seed)).await;
        assert!(lived.is_ok(), "seed {seed} shows it");
    }
}
