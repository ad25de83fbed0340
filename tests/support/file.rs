use std::path::{Path, PathBuf};
use std::time::Duration;

use outbox::ports::{Clock, Outbox, Queue};
use outbox::report::{OutboxStats, QueueStats};
use outbox::sqlite::{SqliteOptions, SqliteOutbox, SqliteQueue, SqliteQueueConfig, SqliteStore};
use outbox::time::{SystemClock, Timestamp};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Row, SqliteConnection};

/// The name of the examples' queue.
const STREAM: &str = "owm-ingestion-stream";

/// How observations came about; those of one key whose place in the queue contradicts their place
/// in the outbox.
const OVERTAKEN_IN_QUEUE: &str = "\
    SELECT count(*) FROM ( \
        SELECT sequence, lag(sequence) OVER (PARTITION BY ordering_key ORDER BY entry) AS before \
        FROM observations WHERE ordering_key IS NOT NULL) \
    WHERE before > sequence";

/// As above, by the order in which they took effect.
const OVERTAKEN_BY_EFFECT: &str = "\
    SELECT count(*) FROM ( \
        SELECT sequence, lag(sequence) OVER (PARTITION BY ordering_key ORDER BY number) AS before \
        FROM observations WHERE ordering_key IS NOT NULL) \
    WHERE before > sequence";

/// Within one run, cities whose place in the outbox contradicts their number.
const OVERTAKEN_IN_OUTBOX: &str = "\
    SELECT count(*) FROM ( \
        SELECT city_id, lag(city_id) OVER (PARTITION BY run ORDER BY sequence) AS before \
        FROM observations) \
    WHERE before > city_id";

/// The file that programs work on.
pub(crate) struct File(PathBuf);

/// What is in a file when everything is over.
#[derive(Debug)]
pub(crate) struct Census {
    /// Effects.
    pub(crate) observations: i64,
    /// Tasks that have an effect.
    pub(crate) tasks: i64,
    /// Processes that handled something.
    pub(crate) processes: i64,
    /// Effects of the same key that are in the wrong order in the queue, or as effects.
    pub(crate) overtaken_in_queue: i64,
    pub(crate) overtaken_by_effect: i64,
    /// Tasks that are in the wrong order within their run, where cities are numbered in order.
    pub(crate) overtaken_in_outbox: i64,
    pub(crate) quarantined: i64,
    /// `ok`, or what SQLite finds wrong with the file.
    pub(crate) integrity: String,
}

impl File {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self(folder.join("outbox.db"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new()
            .filename(&self.0)
            .read_only(true);
        let options = options.busy_timeout(Duration::from_secs(20));
        options.connect().await.unwrap()
    }

    /// A number that a query answers.
    pub(crate) async fn number(&self, query: &'static str) -> i64 {
        let mut connection = self.connect().await;
        let row = sqlx::query(query).fetch_one(&mut connection).await.unwrap();
        row.get::<Option<i64>, _>(0).unwrap_or_default()
    }

    /// How many effects there are; none before the first worker has made their table.
    pub(crate) async fn observations(&self) -> i64 {
        let table = "SELECT count(*) FROM sqlite_schema WHERE name = 'observations'";
        match self.number(table).await {
            0 => 0,
            _ => self.number("SELECT count(*) FROM observations").await,
        }
    }

    /// Whether nobody is in the middle of a transaction that writes.
    pub(crate) async fn is_writable(&self) -> bool {
        let options = SqliteConnectOptions::new().filename(&self.0);
        let options = options.busy_timeout(Duration::from_millis(20));
        let mut connection = options.connect().await.unwrap();
        let begun = sqlx::query("BEGIN IMMEDIATE").execute(&mut connection);
        begun.await.is_ok()
    }

    /// When the last effect was made.
    pub(crate) async fn last_observed(&self) -> Timestamp {
        let micros = self.number("SELECT max(observed_at) FROM observations");
        Timestamp::from_micros(micros.await)
    }

    pub(crate) async fn census(&self) -> Census {
        let integrity = {
            let mut connection = self.connect().await;
            let check = sqlx::query_scalar("PRAGMA integrity_check");
            check.fetch_one(&mut connection).await.unwrap()
        };
        Census {
            observations: self.observations().await,
            tasks: self
                .number("SELECT count(DISTINCT task_id) FROM observations")
                .await,
            processes: self
                .number("SELECT count(DISTINCT process) FROM observations")
                .await,
            overtaken_in_queue: self.number(OVERTAKEN_IN_QUEUE).await,
            overtaken_by_effect: self.number(OVERTAKEN_BY_EFFECT).await,
            overtaken_in_outbox: self.number(OVERTAKEN_IN_OUTBOX).await,
            quarantined: self.number("SELECT count(*) FROM outbox_quarantine").await,
            integrity,
        }
    }

    /// What outbox and queue say of themselves.
    pub(crate) async fn stats(&self) -> (OutboxStats, QueueStats) {
        let options = SqliteOptions::new(&self.0).busy_timeout(Duration::from_secs(20));
        let store = SqliteStore::open_with(options).await.unwrap();
        let queue = SqliteQueueConfig::named(STREAM);
        let queue = SqliteQueue::open(&store, queue).await.unwrap();
        let now = SystemClock.now();
        let outbox = SqliteOutbox::on(&store).stats(now).await.unwrap();
        (outbox, queue.stats(now).await.unwrap())
    }
}
