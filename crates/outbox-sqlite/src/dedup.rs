use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::error::Result;
use outbox_core::id::MessageId;
use outbox_core::ports::{Claim, ClaimToken, DeduplicationCache};
use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use crate::codec::jsonb;
use crate::error::Fault;
use crate::purge;
use crate::scope;
use crate::store::{At, SqliteStore};

/// Memory of processed messages in an SQLite file.
///
/// It outlives the process, and every process on the file shares it. A power failure may undo
/// claims and their ends, never a completion that was answered. Where the effect itself is in the
/// same file, a [`crate::SqliteInbox`] promises more and costs less.
///
/// An id takes some 80 bytes until it is purged; see [`DeduplicationCache::purge`]. Remember ids
/// longer than their messages can come again: the outbox' retention and the longest retry.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("outbox.db");
/// use outbox_core::id::MessageId;
/// use outbox_core::ports::{Claim, DeduplicationCache};
/// use outbox_core::time::Timestamp;
/// use outbox_sqlite::{SqliteDeduplicationCache, SqliteStore};
/// use std::time::Duration;
///
/// let store = SqliteStore::open(&path).await?;
/// let cache = SqliteDeduplicationCache::open(&store, "billing").await?;
/// let (id, lease, now) = (MessageId::from_bytes([7; 16]), Duration::from_secs(30), Timestamp::EPOCH);
/// let claims = cache.claim(&[id, id], lease, now).await?;
/// assert!(matches!(claims[..], [Claim::Acquired(_), Claim::InProgress { .. }]));
/// # Ok::<_, outbox_core::OutboxError>(()) }).unwrap();
/// ```
#[derive(Clone)]
#[doc(alias = "RedisDeduplicationCacheRepository")]
pub struct SqliteDeduplicationCache {
    store: SqliteStore,
    scope: i64,
}

/// Claims the ids that nobody holds and that are not done.
const CLAIM: &str = "\
    INSERT INTO outbox_processed (scope, id, token, expires_at) \
    SELECT ?1, CAST(value AS BLOB), ?2, ?3 FROM json_each(?4) \
    WHERE true ON CONFLICT (scope, id) DO UPDATE \
    SET token = excluded.token, expires_at = excluded.expires_at \
    WHERE outbox_processed.expires_at <= ?5";

const LIVE: &str = "\
    SELECT id, token, expires_at FROM outbox_processed WHERE scope = ?1 \
    AND id IN (SELECT CAST(value AS BLOB) FROM json_each(?2)) AND expires_at > ?3";

const COMPLETE: &str = "\
    UPDATE outbox_processed SET token = NULL, expires_at = ?3 WHERE scope = ?1 \
    AND id IN (SELECT CAST(value AS BLOB) FROM json_each(?2))";

const EXTEND: &str = "\
    UPDATE outbox_processed SET expires_at = ?3 WHERE scope = ?1 \
    AND id IN (SELECT CAST(value AS BLOB) FROM json_each(?2))";

const RELEASE: &str = "\
    DELETE FROM outbox_processed WHERE scope = ?1 \
    AND id IN (SELECT CAST(value AS BLOB) FROM json_each(?2))";

const RECORD: &str = "\
    INSERT INTO outbox_processed (scope, id, token, expires_at) VALUES (?1, ?2, NULL, ?3) \
    ON CONFLICT (scope, id) DO UPDATE SET token = NULL, expires_at = excluded.expires_at";

const PURGE: &str = "\
    DELETE FROM outbox_processed WHERE scope = ?3 AND id IN ( \
        SELECT id FROM outbox_processed WHERE scope = ?3 AND expires_at <= ?1 \
        ORDER BY expires_at LIMIT +?2)";

/// What is known of an id whose time is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    /// Of the one who is at it; `None` once it is done.
    token: Option<ClaimToken>,
    until: Timestamp,
}

type Records = HashMap<MessageId, Record>;

/// What the holder of a claim does with it.
#[derive(Clone, Copy, Debug)]
enum Step {
    Complete(Timestamp),
    Extend(Timestamp),
    Release,
}

impl SqliteDeduplicationCache {
    /// Opens the cache called `name`; caches of different names know nothing of each other.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Config`] for a name that is empty or longer than 255 bytes,
    /// [`outbox_core::OutboxError::Backend`] where the store failed.
    ///
    /// # Cancel safety
    /// A dropped call may have registered the name.
    pub async fn open(store: &SqliteStore, name: &str) -> Result<Self> {
        Ok(Self {
            scope: scope::number(store, "dedup", name).await?,
            store: store.clone(),
        })
    }

    async fn try_to_claim(
        &self,
        ids: &[MessageId],
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Claim>, Fault> {
        // An odd number, so that none is 0; the upper bit is SQL's sign.
        let token = ClaimToken(self.store.options().entropy.next_u64() >> 1 | 1);
        let mut writer = self.store.swift_writer().await?;
        writer.begin().await?;
        let claimed = sqlx::query(CLAIM)
            .bind(self.scope)
            .bind(token.0.cast_signed())
            .bind(until.as_micros())
            .bind(list(ids))
            .bind(now.as_micros())
            .execute(writer.connection())
            .await?;
        let claims = if claimed.rows_affected() == ids.len() as u64 {
            vec![Claim::Acquired(token); ids.len()]
        } else {
            let records = self.live(writer.connection(), ids, now).await?;
            tell(ids, &records, token, until)
        };
        writer.commit().await?;
        writer.finish();
        Ok(claims)
    }

    /// What is known of `ids` at `now`.
    async fn live(
        &self,
        connection: &mut SqliteConnection,
        ids: &[MessageId],
        now: Timestamp,
    ) -> Result<Records, Fault> {
        let rows = sqlx::query(LIVE)
            .bind(self.scope)
            .bind(list(ids))
            .bind(now.as_micros())
            .fetch_all(connection)
            .await?;
        let mut records = HashMap::with_capacity(rows.len());
        for row in &rows {
            // All of them are among `ids`, so none is of another length.
            let Some(id) = row.try_get::<&[u8], _>(0)?.first_chunk() else {
                continue;
            };
            let token: Option<i64> = row.try_get(1)?;
            let record = Record {
                token: token.map(|token| ClaimToken(token.cast_unsigned())),
                until: Timestamp::from_micros(row.try_get(2)?),
            };
            records.insert(MessageId::from_bytes(*id), record);
        }
        Ok(records)
    }

    /// Takes `step` for each claim that is live; whether each was.
    async fn take(
        &self,
        claims: &[(MessageId, ClaimToken)],
        step: Step,
        now: Timestamp,
    ) -> Result<Vec<bool>, Fault> {
        if claims.is_empty() {
            return Ok(Vec::new());
        }
        let mut writer = match step {
            Step::Complete(_) => self.store.writer().await?,
            Step::Extend(_) | Step::Release => self.store.swift_writer().await?,
        };
        writer.begin().await?;
        let ids: Vec<_> = claims.iter().map(|(id, _)| *id).collect();
        let mut records = self.live(writer.connection(), &ids, now).await?;
        let apply = |claim: &(MessageId, ClaimToken)| step.apply(&mut records, *claim);
        let took: Vec<_> = claims.iter().map(apply).collect();
        let held = ids.iter().zip(&took).filter(|(_, took)| **took);
        let held: Vec<_> = held.map(|(id, _)| *id).collect();
        if held.is_empty() {
            writer.rollback().await?;
            writer.finish();
            return Ok(took);
        }
        self.write(writer.connection(), step, &held).await?;
        writer.commit().await?;
        writer.finish();
        Ok(took)
    }

    async fn write(
        &self,
        connection: &mut SqliteConnection,
        step: Step,
        ids: &[MessageId],
    ) -> Result<(), Fault> {
        let (sql, until) = match step {
            Step::Complete(until) => (COMPLETE, Some(until)),
            Step::Extend(until) => (EXTEND, Some(until)),
            Step::Release => (RELEASE, None),
        };
        sqlx::query(sql)
            .bind(self.scope)
            .bind(list(ids))
            .bind(until.map(Timestamp::as_micros))
            .execute(connection)
            .await?;
        Ok(())
    }

    async fn record(&self, id: MessageId, until: Timestamp, now: Timestamp) -> Result<bool, Fault> {
        let mut writer = self.store.writer().await?;
        writer.begin().await?;
        let known = self.live(writer.connection(), &[id], now).await?;
        let done = known.get(&id).filter(|record| record.token.is_none());
        // What is remembered longer already stays so.
        let until = done.map_or(until, |done| done.until.max(until));
        sqlx::query(RECORD)
            .bind(self.scope)
            .bind(&id.as_bytes()[..])
            .bind(until.as_micros())
            .execute(writer.connection())
            .await?;
        writer.commit().await?;
        writer.finish();
        Ok(done.is_none())
    }

    async fn look(&self, id: MessageId, now: Timestamp) -> Result<bool, Fault> {
        let mut reader = self.store.reader().await?;
        let known = self.live(reader.connection(), &[id], now).await?;
        reader.finish();
        Ok(known.values().any(|record| record.token.is_none()))
    }
}

impl Step {
    /// Takes this step for one claim, where it is live; whether it was.
    fn apply(self, records: &mut Records, (id, token): (MessageId, ClaimToken)) -> bool {
        let Some(record) = records.get_mut(&id) else {
            return false;
        };
        if record.token != Some(token) {
            return false;
        }
        match self {
            Self::Complete(_) => record.token = None,
            Self::Extend(_) => {}
            Self::Release => drop(records.remove(&id)),
        }
        true
    }
}

/// Tells what each id of a call was answered, where not all of them were free.
fn tell(ids: &[MessageId], records: &Records, token: ClaimToken, until: Timestamp) -> Vec<Claim> {
    let mut acquired = HashSet::new();
    let tell = |id: &MessageId| match records.get(id) {
        Some(Record { token: None, .. }) => Claim::Done,
        Some(record) if record.token == Some(token) && acquired.insert(*id) => {
            Claim::Acquired(token)
        }
        // Another's, or this call's own where it names an id again.
        record => Claim::InProgress {
            until: record.map_or(until, |record| record.until),
        },
    };
    ids.iter().map(tell).collect()
}

fn list(ids: &[MessageId]) -> Vec<u8> {
    jsonb::texts(ids.iter().map(|id| &id.as_bytes()[..]))
}

#[async_trait]
impl DeduplicationCache for SqliteDeduplicationCache {
    async fn claim(
        &self,
        ids: &[MessageId],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Claim>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let claims = self.try_to_claim(ids, now + lease, now).await;
        claims.at(&self.store, "claim")
    }

    async fn complete(
        &self,
        claims: &[(MessageId, ClaimToken)],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Vec<bool>> {
        let step = Step::Complete(now + ttl);
        self.take(claims, step, now)
            .await
            .at(&self.store, "complete")
    }

    async fn extend(
        &self,
        claims: &[(MessageId, ClaimToken)],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<bool>> {
        let step = Step::Extend(now + lease);
        self.take(claims, step, now).await.at(&self.store, "extend")
    }

    async fn release(
        &self,
        claims: &[(MessageId, ClaimToken)],
        now: Timestamp,
    ) -> Result<Vec<bool>> {
        let took = self.take(claims, Step::Release, now).await;
        took.at(&self.store, "release")
    }

    async fn is_processed(&self, id: MessageId, now: Timestamp) -> Result<bool> {
        self.look(id, now).await.at(&self.store, "look up")
    }

    async fn record_processed(&self, id: MessageId, ttl: Duration, now: Timestamp) -> Result<bool> {
        let news = self.record(id, now + ttl, now).await;
        news.at(&self.store, "record")
    }

    async fn purge(&self, now: Timestamp, max: usize) -> Result<u64> {
        let before = (now, Some(self.scope));
        let purged = purge::in_chunks_of(&self.store, PURGE, before, max).await;
        purged.at(&self.store, "purge")
    }
}

impl fmt::Debug for SqliteDeduplicationCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteDeduplicationCache")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::assert_no_scans;

    #[tokio::test]
    async fn no_statement_grows_with_what_is_remembered() {
        assert_no_scans(&[CLAIM, LIVE, COMPLETE, EXTEND, RELEASE, RECORD, PURGE]).await;
    }
}
