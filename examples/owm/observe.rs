//! What is done with a task: the weather of its city is observed and written down, in the same
//! transaction as the inbox's record that the task was handled. So there is one observation a task,
//! however often it is delivered.

use std::collections::HashSet;

use async_trait::async_trait;
use outbox::delivery::Delivery;
use outbox::lease::EntryId;
use outbox::message::Headers;
use outbox::ports::{Clock, TransactionalHandler, UnitOfWork};
use outbox::sqlite::SqliteStore;
use outbox::time::SystemClock;
use outbox::{HandlerError, Result};
use sqlx::SqliteConnection;

use super::faults::Faults;
use super::outcome::Failure;
use super::task::OwmIngestionTask;

// No UNIQUE: that each task is there once is the inbox's doing, and can be counted.
const TABLE: &str = "\
    CREATE TABLE IF NOT EXISTS observations (
        number       INTEGER PRIMARY KEY AUTOINCREMENT,
        run          TEXT    NOT NULL,
        task_id      TEXT    NOT NULL,
        city_id      INTEGER NOT NULL,
        temperature  REAL    NOT NULL, -- degrees Celsius
        observed_at  INTEGER NOT NULL, -- microseconds since 1970
        -- how the task came here
        ordering_key TEXT,
        sequence     INTEGER NOT NULL, -- its place in the outbox
        entry        INTEGER NOT NULL, -- its place in the queue
        attempt      INTEGER NOT NULL,
        process      INTEGER NOT NULL  -- who handled it
    ) STRICT";

const INDEX: &str = "CREATE INDEX IF NOT EXISTS observations_run ON observations (run)";

const INSERT: &str = "\
    INSERT INTO observations (run, task_id, city_id, temperature, observed_at, \
        ordering_key, sequence, entry, attempt, process) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

const OBSERVED: &str = "SELECT city_id FROM observations WHERE run = ?1";

/// Makes the table where it is missing.
pub(crate) async fn prepare(store: &SqliteStore) -> Result<(), Failure> {
    let mut transaction = store.begin().await?;
    for statement in [TABLE, INDEX] {
        let done = sqlx::query(statement).execute(store.connection(&mut transaction));
        done.await.map_err(|error| broken("make", &error))?;
    }
    Ok(store.commit(transaction).await?)
}

/// The cities that were observed in the run called `run`.
pub(crate) async fn observed(store: &SqliteStore, run: &str) -> Result<HashSet<i64>, Failure> {
    let mut transaction = store.begin().await?;
    let cities = sqlx::query_scalar(OBSERVED)
        .bind(run)
        .fetch_all(store.connection(&mut transaction))
        .await
        .map_err(|error| broken("read", &error))?;
    Ok(cities.into_iter().collect())
}

fn broken(action: &str, error: &sqlx::Error) -> Failure {
    Failure::Incomplete(format!(
        "cannot {action} the table of observations: {error}"
    ))
}

/// Observes the weather at one place.
pub(crate) struct ObserveCity {
    pub(crate) faults: Faults,
}

#[async_trait]
impl TransactionalHandler<SqliteConnection> for ObserveCity {
    async fn handle(
        &self,
        tx: &mut SqliteConnection,
        delivery: &Delivery,
    ) -> Result<(), HandlerError> {
        let task = OwmIngestionTask::read(delivery)?;
        self.write_down(tx, delivery, &task)
            .await
            .map_err(HandlerError::retry)?;
        // After the write, because that is the worse moment: what was written must go again.
        self.faults.strike(task.city_id, delivery.attempt)
    }
}

impl ObserveCity {
    async fn write_down(
        &self,
        tx: &mut SqliteConnection,
        delivery: &Delivery,
        task: &OwmIngestionTask,
    ) -> Result<(), sqlx::Error> {
        let message = &delivery.message;
        let run = message.headers.get(Headers::CORRELATION_ID);
        sqlx::query(INSERT)
            .bind(run.unwrap_or_default())
            .bind(&task.task_id)
            .bind(task.city_id)
            .bind(temperature(task))
            .bind(SystemClock.now().as_micros())
            .bind(message.ordering_key.as_deref())
            .bind(message.sequence.0.cast_signed())
            .bind(place(delivery.receipt.entry))
            .bind(delivery.attempt)
            .bind(std::process::id())
            .execute(tx)
            .await?;
        Ok(())
    }
}

/// A place in the queue as one number: Redis numbers entries by the millisecond, and within it.
fn place(entry: EntryId) -> i64 {
    (entry.major << 20 | entry.minor).cast_signed()
}

/// The weather service, simulated: it is colder towards the poles.
fn temperature(task: &OwmIngestionTask) -> f64 {
    30.0 - 0.6 * task.latitude_deg.abs()
}
