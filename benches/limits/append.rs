use std::time::Duration;

use outbox::message::NewMessage;
use outbox::ports::{Outbox, TransactionalOutbox};
use outbox::sqlite::{SqliteOutbox, Synchronous};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Scale;
use crate::raw::{Raw, rows};
use crate::report::{Report, Target, in_turns, median};
use crate::scene::{fresh, message, messages, open, outbox, remove, runtime};

const BATCH: usize = 500;

/// P1: 500 messages a transaction.
pub(crate) fn batches(scale: &Scale, report: &mut Report) {
    for (name, synchronous, target) in [
        ("FULL", Synchronous::Full, 0.75),
        ("NORMAL", Synchronous::Normal, 0.70),
    ] {
        let runtime = runtime();
        let (ours_path, raw_path) = (fresh(scale, "p1"), fresh(scale, "p1-raw"));
        let store = runtime.block_on(open(scale, &ours_path, synchronous));
        let outbox = runtime.block_on(outbox(&store));
        let raw = Raw::open(&raw_path, name);
        let turns = if scale.short { 10 } else { 30 };
        let batch = messages(BATCH);
        let mut salt = 0;
        let ours = || {
            let started = Instant::now();
            for _ in 0..turns {
                runtime.block_on(outbox.append(&batch)).unwrap();
            }
            started.elapsed()
        };
        let limit = || {
            let mut time = Duration::ZERO;
            for _ in 0..turns {
                salt += 1;
                let rows = rows(BATCH, salt);
                let started = Instant::now();
                raw.insert_batch(&rows);
                time += started.elapsed();
            }
            time
        };
        let (ours, limit) = in_turns(scale.rounds, ours, limit);
        let rate = |time: f64| (turns * BATCH) as f64 / time;
        let variant = format!("append 500 a transaction, {name}, messages/s");
        report.ratio(
            "P1",
            &variant,
            (rate(ours), rate(limit)),
            Target::AtLeast(target),
        );
        remove(&ours_path);
        remove(&raw_path);
    }
}

/// P2: single appends, each awaiting its own durable commit.
pub(crate) fn singles(scale: &Scale, report: &mut Report) {
    for (callers, target) in [
        (Callers::Main, 0.9),
        (Callers::Tasks(1), 0.9),
        (Callers::Tasks(64), 20.0),
        (Callers::Tasks(256), 40.0),
    ] {
        let runtime = runtime();
        let (ours_path, raw_path) = (fresh(scale, "p2"), fresh(scale, "p2-raw"));
        let store = runtime.block_on(open(scale, &ours_path, Synchronous::Full));
        let outbox = runtime.block_on(outbox(&store));
        let raw = Raw::open(&raw_path, "FULL");
        // Until the `-wal` files have their length: while one grows, each commit waits longer.
        for salt in GROWN {
            raw.insert_batch(&rows(BATCH, salt));
            runtime.block_on(outbox.append(&messages(BATCH))).unwrap();
        }
        let mut salt = 0;
        let ours = || {
            let work = callers.messages();
            let started = Instant::now();
            runtime.block_on(callers.append(&outbox, work));
            started.elapsed()
        };
        let limit = || {
            salt += 1;
            let rows = rows(ALONE, salt);
            let started = Instant::now();
            rows.iter().for_each(|row| raw.insert_one(row));
            started.elapsed()
        };
        let (ours, limit) = in_turns(scale.rounds, ours, limit);
        let rates = (callers.count() as f64 / ours, ALONE as f64 / limit);
        let variant = format!("single durable appends from {callers}, FULL, messages/s");
        report.ratio("P2", &variant, rates, Target::AtLeast(target));
        remove(&ours_path);
        remove(&raw_path);
    }
}

/// The salts of the batches that go before the measurement.
const GROWN: std::ops::Range<u64> = 1_000_000..1_000_060;
/// So many appends a round, where they come one after another.
const ALONE: usize = 300;
/// So many appends a round from each of several tasks.
const EACH: usize = 100;

/// Who appends.
#[derive(Clone, Copy)]
enum Callers {
    /// The program's main future.
    Main,
    /// So many tasks at the same time.
    Tasks(usize),
}

impl Callers {
    fn count(self) -> usize {
        self.messages().iter().map(Vec::len).sum()
    }

    /// What each of them appends, made beforehand, as the rows of the limit are.
    fn messages(self) -> Vec<Vec<NewMessage>> {
        match self {
            Self::Main | Self::Tasks(1) => vec![messages(ALONE)],
            Self::Tasks(tasks) => (0..tasks).map(|_| messages(EACH)).collect(),
        }
    }

    async fn append(self, outbox: &SqliteOutbox, work: Vec<Vec<NewMessage>>) {
        let mut callers = JoinSet::new();
        for messages in work {
            let outbox = outbox.clone();
            let caller = async move {
                for message in &messages {
                    let one = std::slice::from_ref(message);
                    Outbox::append(&outbox, one).await.unwrap();
                }
            };
            match self {
                Self::Main => caller.await,
                Self::Tasks(_) => drop(callers.spawn(caller)),
            }
        }
        callers.join_all().await;
    }
}

impl std::fmt::Display for Callers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Main => f.write_str("the main future"),
            Self::Tasks(1) => f.write_str("1 task"),
            Self::Tasks(tasks) => write!(f, "{tasks} tasks"),
        }
    }
}

/// P3: what an append adds to the caller's own transaction, beside the caller's own INSERT.
pub(crate) fn in_transaction(scale: &Scale, report: &mut Report) {
    let runtime = runtime();
    let path = fresh(scale, "p3");
    let (mut added, mut own) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        let store = open(scale, &path, Synchronous::Full).await;
        let outbox = outbox(&store).await;
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
        let mut connection = options.connect().await.unwrap();
        let table = "CREATE TABLE business (id INTEGER PRIMARY KEY, data BLOB NOT NULL)";
        connection.execute(table).await.unwrap();
        for number in 0..(if scale.short { 300 } else { 2_000 }) {
            let one = [message(number)];
            let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let started = Instant::now();
            sqlx::query("INSERT INTO business (data) VALUES (?)")
                .bind(vec![b'x'; 446])
                .execute(&mut *tx)
                .await
                .unwrap();
            let inserted = Instant::now();
            outbox.append_in(&mut tx, &one).await.unwrap();
            added.push(inserted.elapsed().as_secs_f64() * 1e6);
            own.push((inserted - started).as_secs_f64() * 1e6);
            tx.commit().await.unwrap();
        }
    });
    let times = (median(&mut added), median(&mut own));
    let variant = "append inside the caller's transaction, us";
    report.ratio("P3", variant, times, Target::AtMost(1.3));
    remove(&path);
}
