//! Processes that count failures, drain, quarantine and redrive, killed with `kill -9` at random
//! moments, on one file: at every moment each message is in one place, and in the end each is
//! delivered once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use outbox_core::id::{Entropy, MessageId, WorkerId};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{
    ClaimRequest, DeliveryOutcome, DeliverySettlement, DequeueRequest, Outbox, Outcome, Queue,
    RecoverRequest, Settlement,
};
use outbox_core::signal::Shutdown;
use outbox_core::status::{AttemptRecord, OnFailure};
use outbox_core::time::{Clock, SystemClock, Timestamp};
use outbox_dlq::{
    DlqHeap, DlqProcessor, DlqProcessorConfig, Failure, Filter, Operator, Origin, RedriveConfig,
    Subject,
};
use outbox_sqlite::{
    SqliteDlqHeap, SqliteOptions, SqliteOutbox, SqliteQuarantine, SqliteQueue, SqliteQueueConfig,
    SqliteStore, Synchronous,
};
use sqlx::{Connection, SqliteConnection};
use tokio::time::{Instant, sleep};

/// The file that a child works on.
const PATH: &str = "OUTBOX_DLQ_KILL_TEST_PATH";
const MESSAGES: u64 = 300;
const LEASE: Duration = Duration::from_millis(300);
const KILLS: usize = 15;

struct Parts {
    outbox: SqliteOutbox,
    queue: SqliteQueue,
    heap: Arc<SqliteDlqHeap>,
    quarantine: Arc<SqliteQuarantine>,
}

async fn open(path: &Path) -> Parts {
    let options = SqliteOptions::new(path).synchronous(Synchronous::Normal);
    let store = SqliteStore::open_with(options).await.unwrap();
    let config = SqliteQueueConfig::named("kill");
    Parts {
        outbox: SqliteOutbox::on(&store),
        queue: SqliteQueue::open(&store, config).await.unwrap(),
        heap: Arc::new(SqliteDlqHeap::on(&store)),
        quarantine: Arc::new(SqliteQuarantine::on(&store)),
    }
}

fn failure(now: Timestamp) -> AttemptRecord {
    AttemptRecord {
        at: now,
        duration: Duration::ZERO,
        kind: "failed".to_owned(),
        error: "no luck".to_owned(),
    }
}

impl Parts {
    /// Takes messages from the outbox, and settles each as `outcome` says; their ids.
    async fn publish(&self, owner: WorkerId, outcome: &Outcome) -> Vec<MessageId> {
        let request = ClaimRequest {
            owner,
            max: 40,
            lease: LEASE,
            now: SystemClock.now(),
            paused_topics: Vec::new(),
        };
        let leased = self.outbox.claim(&request).await.unwrap().leased;
        let settlements: Vec<_> = leased
            .iter()
            .map(|leased| Settlement {
                token: leased.token,
                outcome: outcome.clone(),
            })
            .collect();
        let settled = self.outbox.settle(&settlements, SystemClock.now()).await;
        settled.unwrap();
        self.outbox.release(owner).await.unwrap();
        leased.iter().map(|leased| leased.message.id).collect()
    }

    /// Takes deliveries from the queue, and settles each as `outcome` says; their ids.
    async fn handle(&self, owner: WorkerId, outcome: &DeliveryOutcome) -> Vec<MessageId> {
        let request = DequeueRequest {
            owner,
            max: 40,
            lease: LEASE,
            wait: Duration::ZERO,
            now: SystemClock.now(),
        };
        let recover = RecoverRequest {
            owner,
            max: 40,
            lease: LEASE,
            now: SystemClock.now(),
        };
        let mut deliveries = self.queue.recover_stuck(&recover).await.unwrap().deliveries;
        deliveries.extend(self.queue.dequeue(&request).await.unwrap().deliveries);
        let settlements: Vec<_> = deliveries
            .iter()
            .map(|delivery| DeliverySettlement {
                receipt: delivery.receipt,
                outcome: outcome.clone(),
            })
            .collect();
        let settled = self.queue.settle(&settlements, SystemClock.now()).await;
        settled.unwrap();
        deliveries
            .iter()
            .map(|delivery| delivery.message.id)
            .collect()
    }

    async fn count(&self, origin: Origin, ids: &[MessageId]) {
        let failures: Vec<_> = ids
            .iter()
            .map(|id| Failure {
                subject: Subject {
                    origin: origin.clone(),
                    id: *id,
                },
                at: SystemClock.now(),
                kind: "failed".to_owned(),
                error: "no luck".to_owned(),
            })
            .collect();
        self.heap.record_failures(&failures).await.unwrap();
    }

    async fn redrive(&self) {
        let operator = Operator::new(self.quarantine.clone(), "killed");
        let config = RedriveConfig {
            max_redrives: None,
            batch: 50,
            ..RedriveConfig::default()
        };
        let (all, shutdown) = (Filter::default(), Shutdown::new());
        let summary = operator.redrive(&all, &config, &shutdown).await;
        assert_eq!(summary.unwrap().refused, 0);
    }
}

/// Fails, counts, quarantines and redrives until it is killed.
async fn work(path: &Path) {
    let parts = open(path).await;
    let owner = WorkerId::new(&Entropy::from_system());
    let config = DlqProcessorConfig {
        threshold: 2,
        batch: 50,
        lease: Duration::from_secs(1),
        ..DlqProcessorConfig::default()
    };
    let processor = DlqProcessor::new(parts.heap.clone(), parts.quarantine.clone(), config);
    let processor = processor.unwrap();
    loop {
        for _ in 0..4 {
            let now = SystemClock.now();
            let (due_at, failure) = (now, failure(now));
            let retry = Outcome::Retry {
                due_at,
                failure: failure.clone(),
                on_failure: OnFailure::BlockKey,
            };
            let failed = parts.publish(owner, &retry).await;
            parts.count(Origin::Outbox, &failed).await;
            let retry = DeliveryOutcome::Retry { due_at, failure };
            let failed = parts.handle(owner, &retry).await;
            parts.count(Origin::Queue("kill".to_owned()), &failed).await;
        }
        processor.run_once().await.unwrap();
        parts.redrive().await;
    }
}

#[tokio::test]
#[ignore = "a process that the other test starts and kills"]
async fn child() {
    if let Ok(path) = std::env::var(PATH) {
        work(Path::new(&path)).await;
    }
}

fn start(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--ignored"])
        .env(PATH, path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn kill(mut child: Child) {
    let alive = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(alive, "a child ended by itself");
}

fn id(number: u64) -> MessageId {
    let mut id = [5; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    MessageId::from_bytes(id)
}

async fn fill(parts: &Parts) {
    let message = |number: u64| {
        let mut new = NewMessage::new("t", "x").ordering_key((number % 7).to_string());
        new.id = Some(id(number));
        new
    };
    let outbox: Vec<_> = (0..MESSAGES).map(message).collect();
    parts.outbox.append(&outbox).await.unwrap();
    let entries = (MESSAGES..2 * MESSAGES).map(message);
    let entries = entries.map(|new| Message::appended(&new, new.id.unwrap(), Timestamp::EPOCH));
    for result in parts.queue.enqueue(&entries.collect::<Vec<_>>()).await {
        result.unwrap();
    }
}

/// In one look: messages in any one place; entries that the queue does not count; and how often anything
/// was redriven.
async fn census(path: &Path) -> (i64, i64, i64) {
    let mut connection = SqliteConnection::connect(path.to_str().unwrap())
        .await
        .unwrap();
    let counts = sqlx::query_as(
        "SELECT (SELECT count(*) FROM outbox_messages) \
            + (SELECT depth FROM outbox_queues) + (SELECT count(*) FROM outbox_quarantine), \
        (SELECT count(*) FROM outbox_entries) + (SELECT count(*) FROM outbox_returned) \
            - (SELECT depth FROM outbox_queues), \
        (SELECT ifnull(sum(letters), 0) FROM outbox_audit)",
    );
    counts.fetch_one(&mut connection).await.unwrap()
}

/// Delivers what is left, on both sides; each id, as often as it was.
async fn deliver(parts: &Parts) -> Vec<MessageId> {
    let owner = WorkerId::new(&Entropy::from_system());
    let (began, mut delivered) = (Instant::now(), Vec::new());
    while delivered.len() < 2 * MESSAGES as usize {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{}",
            delivered.len()
        );
        parts.redrive().await;
        delivered.extend(parts.publish(owner, &Outcome::Published).await);
        delivered.extend(parts.handle(owner, &DeliveryOutcome::Done).await);
    }
    delivered
}

#[tokio::test]
async fn killed_at_any_step_of_drain_quarantine_and_redrive_nothing_is_lost_or_doubled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("outbox.db");
    let parts = open(&path).await;
    fill(&parts).await;
    let entropy = Entropy::from_system();
    let mut redriven = 0;
    for kills in 0.. {
        let children = [start(&path), start(&path)];
        sleep(Duration::from_millis(150 + entropy.next_u64() % 350)).await;
        children.into_iter().for_each(kill);
        let (all, uncounted, audited) = census(&path).await;
        assert_eq!(
            (all, uncounted),
            (2 * MESSAGES as i64, 0),
            "after {kills} kills"
        );
        redriven = audited;
        if kills >= KILLS && redriven > 500 || kills > 4 * KILLS {
            break;
        }
    }
    assert!(redriven > 500, "{redriven} redriven is no trial");
    let delivered = deliver(&parts).await;
    let different: BTreeSet<_> = delivered.iter().collect();
    assert_eq!(
        (delivered.len(), different.len()),
        (2 * MESSAGES as usize, 2 * MESSAGES as usize)
    );
    assert_eq!(census(&path).await.0, 0);
}
