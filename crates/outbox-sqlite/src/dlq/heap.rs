use std::collections::HashMap;

use async_trait::async_trait;
use outbox_core::error::Result;
use outbox_core::id::MessageId;
use outbox_core::time::Timestamp;
use outbox_dlq::{DlqEntry, DlqHeap, DrainRequest, Failure, HeapStats, Subject};
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::letter::{hex, origin};
use crate::codec::jsonb;
use crate::connect::Role;
use crate::error::Fault;
use crate::quarantine::json;
use crate::store::{At, SqliteStore, Writer};

/// The heap of dead letters in an SQLite file, beside its outbox or in a file of its own.
///
/// Counts are written without waiting for the disk: a loss of power may undo the last of them, and
/// never a message or its quarantine.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("outbox.db");
/// use outbox_dlq::DlqHeap;
/// use outbox_sqlite::{SqliteDlqHeap, SqliteStore};
///
/// let store = SqliteStore::open(&path).await?;
/// let heap = SqliteDlqHeap::on(&store);
/// assert_eq!(heap.stats(outbox_core::time::Timestamp::EPOCH).await?.entries, 0);
/// # Ok::<_, outbox_core::OutboxError>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct SqliteDlqHeap {
    store: SqliteStore,
}

impl SqliteDlqHeap {
    /// The heap in a store that is open.
    #[must_use]
    pub fn on(store: &SqliteStore) -> Self {
        Self {
            store: store.clone(),
        }
    }

    async fn record(&self, failures: &[Failure]) -> Result<(), Fault> {
        let rows = json(&failures.iter().map(Named::from).collect::<Vec<_>>())?;
        let mut writer = self.store.swift_writer().await?;
        let record = sqlx::query(RECORD).bind(rows);
        record.execute(writer.connection()).await?;
        writer.finish();
        Ok(())
    }

    async fn forget(&self, subjects: &[Subject]) -> Result<(), Fault> {
        let named = subjects.iter().map(|subject| (subject, None));
        change(self.store.swift_writer().await?, FORGET, named).await?;
        Ok(())
    }

    /// Does `sql` to those of `drained` that are still claimed; answers how many they were.
    async fn end_claims(&self, sql: &'static str, drained: &[DlqEntry]) -> Result<u64, Fault> {
        let named = drained
            .iter()
            .map(|entry| (&entry.subject, Some(entry.claim)));
        change(self.store.background_writer(Role::Bulk).await?, sql, named).await
    }

    async fn drain(&self, request: &DrainRequest) -> Result<Vec<DlqEntry>, Fault> {
        // What is not claimed now and was never drained anew cannot be told apart by less.
        let claim = self.store.options().entropy.next_u64() >> 1;
        let mut writer = self.store.background_writer(Role::Bulk).await?;
        let connection = writer.connection();
        let threshold = i64::from(request.threshold);
        // Each statement commits by itself: one that is not followed by the other claims less.
        let mut drained = take(connection, DRAIN_COUNT, threshold, (request, claim, 0)).await?;
        if let Some(since) = request.failing_since {
            let since = since.as_micros();
            let taken = drained.len();
            drained.extend(take(connection, DRAIN_AGE, since, (request, claim, taken)).await?);
        }
        writer.finish();
        drained.sort_by_key(|entry| std::cmp::Reverse(entry.failures));
        Ok(drained)
    }

    async fn purge_old(&self, before: Timestamp, max: usize, now: Timestamp) -> Result<u64, Fault> {
        if !self.has_old(before).await? {
            return Ok(0);
        }
        let mut writer = self.store.background_writer(Role::Bulk).await?;
        let done = sqlx::query(PURGE)
            .bind(before.as_micros())
            .bind(now.as_micros())
            .bind(max as i64)
            .execute(writer.connection())
            .await?;
        writer.finish();
        Ok(done.rows_affected())
    }

    /// Whether there is anything to purge, so that a look costs no write.
    async fn has_old(&self, before: Timestamp) -> Result<bool, Fault> {
        let mut reader = self.store.reader().await?;
        let old = sqlx::query_scalar(HAS_OLD).bind(before.as_micros());
        let old: bool = old.fetch_one(reader.connection()).await?;
        reader.finish();
        Ok(old)
    }

    /// Whether anything failed too often, so that a look costs no write.
    async fn exceeds(&self, request: &DrainRequest) -> Result<bool, Fault> {
        let since = request.failing_since.map(Timestamp::as_micros);
        let mut reader = self.store.reader().await?;
        let exceeds: bool = sqlx::query_scalar(EXCEEDS)
            .bind(i64::from(request.threshold))
            .bind(since)
            .bind(request.now.as_micros())
            .fetch_one(reader.connection())
            .await?;
        reader.finish();
        Ok(exceeds)
    }

    async fn counted(&self, now: Timestamp) -> Result<HeapStats, Fault> {
        let mut reader = self.store.reader().await?;
        let row = sqlx::query(STATS)
            .bind(now.as_micros())
            .fetch_one(reader.connection())
            .await?;
        reader.finish();
        let count = |column| Ok::<_, Fault>(row.try_get::<i64, _>(column)?.unsigned_abs());
        let oldest: Option<i64> = row.try_get(2)?;
        Ok(HeapStats {
            entries: count(0)?,
            claimed: count(1)?,
            oldest: oldest.map(Timestamp::from_micros),
        })
    }
}

pub(super) const RECORD: &str = "\
    INSERT INTO outbox_failures \
        (origin, id, failures, first_failed_at, last_failed_at, error_kind, error) \
    SELECT value ->> 'origin', unhex(value ->> 'id'), 1, value ->> 'at', value ->> 'at', \
        value ->> 'kind', value ->> 'error' \
    FROM json_each(?1) WHERE true \
    ON CONFLICT (origin, id) DO UPDATE SET failures = failures + 1, \
        first_failed_at = min(first_failed_at, excluded.first_failed_at), \
        last_failed_at = max(last_failed_at, excluded.last_failed_at), \
        error_kind = excluded.error_kind, error = excluded.error";

/// Entries of one origin by their ids, in the order in which [`change`] binds them.
macro_rules! named {
    ($do:literal, $more:literal) => {
        concat!(
            $do,
            " WHERE origin = ?1 AND id IN (SELECT CAST(value AS BLOB) FROM json_each(?2))",
            $more
        )
    };
}

pub(super) const FORGET: &str = named!("DELETE FROM outbox_failures", "");

macro_rules! drain {
    ($meant:literal, $order:literal) => {
        concat!(
            "UPDATE outbox_failures SET claim = ?2, claimed_until = ?3 WHERE (origin, id) IN ( ",
            "SELECT origin, id FROM outbox_failures WHERE ",
            $meant,
            " AND claimed_until <= ?4 ORDER BY ",
            $order,
            " LIMIT +?5) ",
            "RETURNING origin, id, failures, first_failed_at, last_failed_at, error_kind, error"
        )
    };
}

pub(super) const DRAIN_COUNT: &str = drain!("failures >= ?1", "failures DESC");
pub(super) const DRAIN_AGE: &str = drain!("first_failed_at < ?1", "first_failed_at");

pub(super) const EXCEEDS: &str = "SELECT \
    EXISTS (SELECT 1 FROM outbox_failures WHERE failures >= ?1 AND claimed_until <= ?3) \
    OR EXISTS (SELECT 1 FROM outbox_failures WHERE first_failed_at < ?2 AND claimed_until <= ?3)";

pub(super) const CONFIRM: &str = named!(
    "DELETE FROM outbox_failures",
    " AND claim = ?3 AND claimed_until > 0"
);

pub(super) const RELEASE: &str = named!(
    "UPDATE outbox_failures SET claimed_until = 0",
    " AND claim = ?3 AND claimed_until > 0"
);

pub(super) const HAS_OLD: &str =
    "SELECT EXISTS (SELECT 1 FROM outbox_failures WHERE last_failed_at < ?1)";

pub(super) const PURGE: &str = "\
    DELETE FROM outbox_failures WHERE (origin, id) IN ( \
        SELECT origin, id FROM outbox_failures \
        WHERE last_failed_at < ?1 AND claimed_until <= ?2 ORDER BY last_failed_at LIMIT +?3)";

const STATS: &str = "SELECT count(*), ifnull(sum(claimed_until > ?1), 0), min(first_failed_at) \
    FROM outbox_failures";

/// Does `sql` to the entries that are named, each with the claim that it must still have, if any;
/// answers how many rows it changed. What does not share origin and claim takes a transaction each.
async fn change<'a>(
    mut writer: Writer,
    sql: &'static str,
    named: impl Iterator<Item = (&'a Subject, Option<u64>)>,
) -> Result<u64, Fault> {
    let mut alike: HashMap<_, Vec<&[u8]>> = HashMap::new();
    for (subject, claim) in named {
        let ids = alike.entry((&subject.origin, claim)).or_default();
        ids.push(subject.id.as_bytes());
    }
    let mut changed = 0;
    for ((origin, claim), ids) in alike {
        let query = sqlx::query(sql)
            .bind(origin.to_string())
            .bind(jsonb::texts(ids));
        let query = match claim {
            Some(claim) => query.bind(claim.cast_signed()),
            None => query,
        };
        changed += query.execute(writer.connection()).await?.rows_affected();
    }
    writer.finish();
    Ok(changed)
}

async fn take(
    connection: &mut SqliteConnection,
    sql: &'static str,
    meant: i64,
    (request, claim, taken): (&DrainRequest, u64, usize),
) -> Result<Vec<DlqEntry>, Fault> {
    let until = request.now + request.lease;
    let rows = sqlx::query(sql)
        .bind(meant)
        .bind(claim.cast_signed())
        .bind(until.as_micros())
        .bind(request.now.as_micros())
        .bind(request.max.saturating_sub(taken) as i64)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| entry(row, claim)).collect()
}

fn entry(row: &SqliteRow, claim: u64) -> Result<DlqEntry, Fault> {
    let moment = |column| Ok::<_, Fault>(Timestamp::from_micros(row.try_get(column)?));
    let id: &[u8] = row.try_get(1)?;
    let id = id.try_into().map_err(|_| sqlx::Error::ColumnDecode {
        index: "id".to_owned(),
        source: "a message id has 16 bytes".into(),
    })?;
    Ok(DlqEntry {
        subject: Subject {
            origin: origin(row.try_get(0)?)?,
            id: MessageId::from_bytes(id),
        },
        failures: row.try_get(2)?,
        first_failed_at: moment(3)?,
        last_failed_at: moment(4)?,
        kind: row.try_get(5)?,
        error: row.try_get(6)?,
        claim,
    })
}

/// A failure as [`RECORD`] reads it.
#[derive(Serialize)]
struct Named<'a> {
    origin: String,
    id: String,
    at: Timestamp,
    kind: &'a str,
    error: &'a str,
}

impl<'a> From<&'a Failure> for Named<'a> {
    fn from(failure: &'a Failure) -> Self {
        Self {
            origin: failure.subject.origin.to_string(),
            id: hex(failure.subject.id.as_bytes()),
            at: failure.at,
            kind: &failure.kind,
            error: &failure.error,
        }
    }
}

#[async_trait]
impl DlqHeap for SqliteDlqHeap {
    async fn record_failures(&self, failures: &[Failure]) -> Result<()> {
        let recorded = self.record(failures).await;
        recorded.at(&self.store, "count failures")
    }

    async fn record_successes(&self, subjects: &[Subject]) -> Result<()> {
        let forgotten = self.forget(subjects).await;
        forgotten.at(&self.store, "forget failures")
    }

    async fn drain_exceeded(&self, request: &DrainRequest) -> Result<Vec<DlqEntry>> {
        let drain = async {
            match self.exceeds(request).await? {
                true => self.drain(request).await,
                false => Ok(Vec::new()),
            }
        };
        drain.await.at(&self.store, "drain failures")
    }

    async fn confirm(&self, drained: &[DlqEntry]) -> Result<u64> {
        let confirmed = self.end_claims(CONFIRM, drained).await;
        confirmed.at(&self.store, "confirm drained failures")
    }

    async fn release(&self, drained: &[DlqEntry]) -> Result<u64> {
        let released = self.end_claims(RELEASE, drained).await;
        released.at(&self.store, "release drained failures")
    }

    async fn purge(&self, before: Timestamp, max: usize, now: Timestamp) -> Result<u64> {
        let purged = self.purge_old(before, max, now).await;
        purged.at(&self.store, "purge failures")
    }

    async fn stats(&self, now: Timestamp) -> Result<HeapStats> {
        self.counted(now).await.at(&self.store, "count failures")
    }
}
