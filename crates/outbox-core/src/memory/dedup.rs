use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
use crate::id::MessageId;
use crate::ports::{Claim, ClaimToken, DeduplicationCache};
use crate::time::Timestamp;

/// A deduplication cache in this process' memory, shared by cloning.
///
/// An id takes some 100 bytes until it is purged; see [`DeduplicationCache::purge`].
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use outbox_core::id::MessageId;
/// use outbox_core::memory::MemoryDeduplicationCache;
/// use outbox_core::ports::{Claim, DeduplicationCache};
/// use outbox_core::time::Timestamp;
/// use std::time::Duration;
///
/// let cache = MemoryDeduplicationCache::new();
/// let (id, lease) = (MessageId::from_bytes([7; 16]), Duration::from_secs(30));
/// let claims = cache.claim(&[id, id], lease, Timestamp::EPOCH).await.unwrap();
/// assert!(matches!(claims[..], [Claim::Acquired(_), Claim::InProgress { .. }]));
/// # });
/// ```
#[derive(Clone, Default)]
#[doc(alias = "RedisDeduplicationCacheRepository")]
pub struct MemoryDeduplicationCache(Arc<Mutex<Records>>);

#[derive(Default)]
struct Records {
    by_id: HashMap<MessageId, Record>,
    by_end: BTreeSet<(Timestamp, MessageId)>,
    last_token: u64,
}

/// What is known of an id, before `until`.
#[derive(Clone, Copy)]
struct Record {
    standing: Standing,
    until: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Claimed(ClaimToken),
    Done,
}

impl Records {
    fn live(&self, id: MessageId, now: Timestamp) -> Option<Record> {
        let record = self.by_id.get(&id).copied();
        record.filter(|record| now < record.until)
    }

    fn put(&mut self, id: MessageId, standing: Standing, until: Timestamp) {
        self.remove(id);
        self.by_id.insert(id, Record { standing, until });
        self.by_end.insert((until, id));
    }

    fn remove(&mut self, id: MessageId) {
        if let Some(record) = self.by_id.remove(&id) {
            self.by_end.remove(&(record.until, id));
        }
    }

    fn claim(&mut self, id: MessageId, until: Timestamp, now: Timestamp) -> Claim {
        match self.live(id, now) {
            None => {
                self.last_token += 1;
                let token = ClaimToken(self.last_token);
                self.put(id, Standing::Claimed(token), until);
                Claim::Acquired(token)
            }
            Some(Record { standing, until }) if standing != Standing::Done => {
                Claim::InProgress { until }
            }
            Some(_) => Claim::Done,
        }
    }

    fn holds(&self, (id, token): (MessageId, ClaimToken), now: Timestamp) -> bool {
        let live = self.live(id, now);
        live.is_some_and(|record| record.standing == Standing::Claimed(token))
    }

    fn record(&mut self, id: MessageId, until: Timestamp, now: Timestamp) -> bool {
        let known = self.live(id, now);
        let known = known.filter(|record| record.standing == Standing::Done);
        let until = known.map_or(until, |record| record.until.max(until));
        self.put(id, Standing::Done, until);
        known.is_none()
    }

    fn purge(&mut self, now: Timestamp, max: usize) -> u64 {
        let ended = self.by_end.iter().take_while(|(until, _)| *until <= now);
        let ended: Vec<_> = ended.take(max).map(|(_, id)| *id).collect();
        for id in &ended {
            self.remove(*id);
        }
        ended.len() as u64
    }
}

impl MemoryDeduplicationCache {
    /// A cache that remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Records) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Does `work` for each claim that is live; whether each was.
    fn settle(
        &self,
        claims: &[(MessageId, ClaimToken)],
        now: Timestamp,
        work: impl Fn(&mut Records, MessageId, ClaimToken),
    ) -> Vec<bool> {
        self.with(|records| {
            let settle = |claim: &(MessageId, ClaimToken)| {
                let holds = records.holds(*claim, now);
                if holds {
                    work(records, claim.0, claim.1);
                }
                holds
            };
            claims.iter().map(settle).collect()
        })
    }
}

#[async_trait]
impl DeduplicationCache for MemoryDeduplicationCache {
    async fn claim(
        &self,
        ids: &[MessageId],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Claim>> {
        Ok(self.with(|records| {
            let claim = |id: &MessageId| records.claim(*id, now + lease, now);
            ids.iter().map(claim).collect()
        }))
    }

    async fn complete(
        &self,
        claims: &[(MessageId, ClaimToken)],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Vec<bool>> {
        Ok(self.settle(claims, now, |records, id, _| {
            records.put(id, Standing::Done, now + ttl);
        }))
    }

    async fn extend(
        &self,
        claims: &[(MessageId, ClaimToken)],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<bool>> {
        Ok(self.settle(claims, now, |records, id, token| {
            records.put(id, Standing::Claimed(token), now + lease);
        }))
    }

    async fn release(
        &self,
        claims: &[(MessageId, ClaimToken)],
        now: Timestamp,
    ) -> Result<Vec<bool>> {
        Ok(self.settle(claims, now, |records, id, _| records.remove(id)))
    }

    async fn is_processed(&self, id: MessageId, now: Timestamp) -> Result<bool> {
        let live = self.with(|records| records.live(id, now));
        Ok(live.is_some_and(|record| record.standing == Standing::Done))
    }

    async fn record_processed(&self, id: MessageId, ttl: Duration, now: Timestamp) -> Result<bool> {
        Ok(self.with(|records| records.record(id, now + ttl, now)))
    }

    async fn purge(&self, now: Timestamp, max: usize) -> Result<u64> {
        Ok(self.with(|records| records.purge(now, max)))
    }
}

impl fmt::Debug for MemoryDeduplicationCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryDeduplicationCache")
    }
}
