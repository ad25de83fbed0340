use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::error::{ConfigError, OutboxError, Result};
use outbox_core::id::{Entropy, MessageId};
use outbox_core::ports::{Claim, ClaimToken, DeduplicationCache};
use outbox_core::time::Timestamp;

use super::call::{Act, Call, Proof};
use super::layout::DedupLayout;
use crate::error::{At, Fault};
use crate::keys::{Keys, check_text};
use crate::link::Arg;
use crate::store::RedisStore;
use crate::time_source::{Drift, unsteady};

/// The most ids that one script is told of: the server does nothing else meanwhile.
const IDS_A_SCRIPT: usize = 1_000;

/// How often a script is told of another rotation before its server is given up as one whose clock
/// cannot be followed.
const ATTEMPTS: u32 = 5;

/// Memory of processed messages in Redis, for all processes that share a server.
///
/// It is best effort: what a server loses (a crash without an append-only file, a failover, an
/// eviction) it forgets, and messages that come again are handled again. Where that must not be,
/// record the message in the transaction of its effect, as an inbox does.
///
/// Each call is one script, up to 1,000 ids of it; leases and lifetimes are measured on the server's
/// clock. All keys of a cache have one hash tag, so in a cluster they lie on one node; give several
/// caches different names where one node is not enough.
///
/// Remember ids longer than their messages can come again: the outbox's retention, the longest
/// outage and the longest retry.
///
/// ```no_run
/// # async fn example() -> outbox_core::Result<()> {
/// use outbox_core::id::MessageId;
/// use outbox_core::ports::{Claim, DeduplicationCache};
/// use outbox_core::time::{Clock, SystemClock};
/// use outbox_redis::{RedisDeduplicationCache, RedisStore};
/// use std::time::Duration;
///
/// let store = RedisStore::open("redis://127.0.0.1").await?;
/// let cache = RedisDeduplicationCache::open(&store, "billing").await?;
/// let (id, lease, now) = (MessageId::from_bytes([7; 16]), Duration::from_secs(30), SystemClock.now());
/// let claims = cache.claim(&[id, id], lease, now).await?;
/// assert!(matches!(claims[..], [Claim::Acquired(_), Claim::InProgress { .. }]));
/// # Ok(()) }
/// ```
#[derive(Clone)]
#[doc(alias = "RedisDeduplicationCacheRepository")]
pub struct RedisDeduplicationCache {
    store: RedisStore,
    keys: Keys,
    layout: DedupLayout,
    entropy: Entropy,
    drift: Arc<Drift>,
}

impl RedisDeduplicationCache {
    /// Opens the cache called `name` in the plain layout; caches of different names know nothing of
    /// each other.
    ///
    /// # Errors
    /// As [`RedisDeduplicationCache::open_with`].
    ///
    /// # Cancel safety
    /// As [`RedisDeduplicationCache::open_with`].
    pub async fn open(store: &RedisStore, name: &str) -> Result<Self> {
        Self::open_with(store, name, DedupLayout::default()).await
    }

    /// Opens the cache called `name` in `layout`, which stays the layout of that name.
    ///
    /// # Errors
    /// [`OutboxError::Config`] for a name that is empty, longer than 255 bytes or has braces in it,
    /// for a layout that cannot be, and for one that is not the layout that the cache has;
    /// [`OutboxError::Backend`] where the server failed.
    ///
    /// # Cancel safety
    /// A dropped call may have noted the layout of the name.
    pub async fn open_with(store: &RedisStore, name: &str, layout: DedupLayout) -> Result<Self> {
        let mut error = ConfigError::default();
        check_text(&mut error, "name", name);
        layout.check(&mut error);
        error.into_result()?;
        let cache = Self {
            keys: store.keys(name),
            store: store.clone(),
            layout,
            entropy: Entropy::from_system(),
            drift: Arc::default(),
        };
        let agreed = cache.agree(name).await;
        agreed.at("open a deduplication cache", store.address())?;
        Ok(cache)
    }

    /// Notes the layout of this cache, or compares it with the one that was noted first.
    async fn agree(&self, name: &str) -> Result<(), Fault> {
        let (key, shape) = (self.keys.part("layout"), self.layout.shape());
        let args = vec![
            Arg::from(key.as_str()),
            Arg::from(shape.as_str()),
            Arg::from_static_str("NX"),
            Arg::from_static_str("GET"),
        ];
        let noted = self.store.link()?.command("SET", Some(&key), args).await?;
        if noted.is_null() {
            return Ok(());
        }
        let noted = noted.text()?;
        if noted == shape {
            return Ok(());
        }
        let mut error = ConfigError::default();
        let problem = format!("of the cache `{name}` is `{noted}`, not `{shape}`");
        error.add("layout", problem);
        Err(OutboxError::from(error).into())
    }

    /// Does `act` as `fill` says, once more where the server is in another rotation than was thought;
    /// answers what it says of each of `count` ids.
    async fn ask(
        &self,
        act: Act,
        (now, count): (Timestamp, usize),
        fill: impl Fn(&mut Call<'_>) -> Result<()>,
    ) -> Result<Vec<i64>, Fault> {
        for _ in 0..ATTEMPTS {
            let places = self.layout.places(self.drift.apply(now));
            let mut call = Call::new(&self.keys, self.store.moment(now), places);
            fill(&mut call)?;
            let keys: Vec<&str> = call.keys.iter().map(String::as_str).collect();
            let script = call.script(act);
            let reply = self.store.link()?.run(script, &keys, call.args).await?;
            let mut numbers = reply.list()?.map(|one| one.number());
            let moment = numbers.next().transpose()?.unwrap_or_default();
            self.drift.learn(now, Timestamp::from_micros(moment));
            let answers = numbers.collect::<Result<Vec<_>, _>>()?;
            match answers[..] {
                [] => {}
                // The same for all.
                [all] => return Ok(vec![all; count]),
                _ => return Ok(answers),
            }
        }
        Err(unsteady("rotation", ATTEMPTS))
    }

    async fn try_to_claim(
        &self,
        ids: &[MessageId],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Claim>, Fault> {
        // An odd number, so that none is 0, which is what done ids hold.
        let token = ClaimToken(self.entropy.next_u64() | 1);
        let fill = |call: &mut Call<'_>| {
            call.lease(lease)?;
            call.token(token);
            call.everywhere(ids);
            Ok(())
        };
        let tell = |answer: i64| match u64::try_from(answer) {
            Ok(0) => Claim::Acquired(token),
            Ok(left) => Claim::InProgress {
                until: now + Duration::from_millis(left),
            },
            Err(_) => Claim::Done,
        };
        let answers = self.ask(Act::Claim, (now, ids.len()), fill).await?;
        Ok(answers.into_iter().map(tell).collect())
    }

    async fn try_to_complete(
        &self,
        claims: &[Proof],
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Vec<bool>, Fault> {
        let fill = |call: &mut Call<'_>| call.towards(claims, ttl);
        let answers = self.ask(Act::Complete, (now, claims.len()), fill).await?;
        Ok(took(&answers))
    }

    async fn try_to_extend(
        &self,
        claims: &[Proof],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<bool>, Fault> {
        let fill = |call: &mut Call<'_>| {
            call.lease(lease)?;
            call.held(claims);
            Ok(())
        };
        let answers = self.ask(Act::Extend, (now, claims.len()), fill).await?;
        Ok(took(&answers))
    }

    async fn try_to_release(&self, claims: &[Proof], now: Timestamp) -> Result<Vec<bool>, Fault> {
        let fill = |call: &mut Call<'_>| {
            call.held(claims);
            Ok(())
        };
        let answers = self.ask(Act::Release, (now, claims.len()), fill).await?;
        Ok(took(&answers))
    }

    async fn look(&self, id: MessageId, now: Timestamp) -> Result<bool, Fault> {
        let fill = |call: &mut Call<'_>| {
            call.everywhere(&[id]);
            Ok(())
        };
        let answers = self.ask(Act::Look, (now, 1), fill).await?;
        Ok(took(&answers).contains(&true))
    }

    async fn record(&self, id: MessageId, ttl: Duration, now: Timestamp) -> Result<bool, Fault> {
        let fill = |call: &mut Call<'_>| {
            call.lasting(ttl)?;
            call.everywhere(&[id]);
            Ok(())
        };
        let answers = self.ask(Act::Record, (now, 1), fill).await?;
        Ok(took(&answers).contains(&true))
    }

    fn at<T>(&self, operation: &'static str, answer: Result<T, Fault>) -> Result<T> {
        answer.at(operation, self.store.address())
    }
}

fn took(answers: &[i64]) -> Vec<bool> {
    answers.iter().map(|answer| *answer == 1).collect()
}

#[async_trait]
impl DeduplicationCache for RedisDeduplicationCache {
    async fn claim(
        &self,
        ids: &[MessageId],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Claim>> {
        let mut claims = Vec::with_capacity(ids.len());
        for ids in ids.chunks(IDS_A_SCRIPT) {
            let answer = self.try_to_claim(ids, lease, now).await;
            claims.extend(self.at("claim", answer)?);
        }
        Ok(claims)
    }

    async fn complete(&self, claims: &[Proof], ttl: Duration, now: Timestamp) -> Result<Vec<bool>> {
        let mut took = Vec::with_capacity(claims.len());
        for claims in claims.chunks(IDS_A_SCRIPT) {
            let answer = self.try_to_complete(claims, ttl, now).await;
            took.extend(self.at("complete", answer)?);
        }
        Ok(took)
    }

    async fn extend(&self, claims: &[Proof], lease: Duration, now: Timestamp) -> Result<Vec<bool>> {
        let mut took = Vec::with_capacity(claims.len());
        for claims in claims.chunks(IDS_A_SCRIPT) {
            let answer = self.try_to_extend(claims, lease, now).await;
            took.extend(self.at("extend", answer)?);
        }
        Ok(took)
    }

    async fn release(&self, claims: &[Proof], now: Timestamp) -> Result<Vec<bool>> {
        let mut took = Vec::with_capacity(claims.len());
        for claims in claims.chunks(IDS_A_SCRIPT) {
            let answer = self.try_to_release(claims, now).await;
            took.extend(self.at("release", answer)?);
        }
        Ok(took)
    }

    async fn is_processed(&self, id: MessageId, now: Timestamp) -> Result<bool> {
        let answer = self.look(id, now).await;
        self.at("look up", answer)
    }

    async fn record_processed(&self, id: MessageId, ttl: Duration, now: Timestamp) -> Result<bool> {
        let answer = self.record(id, ttl, now).await;
        self.at("record", answer)
    }

    /// Answers 0: the server forgets by itself.
    async fn purge(&self, _now: Timestamp, _max: usize) -> Result<u64> {
        Ok(0)
    }
}

impl fmt::Debug for RedisDeduplicationCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisDeduplicationCache")
            .field("store", &self.store)
            .field("keys", &self.keys.to_string())
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}
