//! A primary, a replica, and a Sentinel that promotes the one when the other is gone.

use outbox_core::policy::Window;
use outbox_core::ports::RateLimiter;
use outbox_redis::{RedisFixedWindowLimiter, RedisLimiterConfig};
use outbox_redis_harness::RedisServer;

use super::*;

/// How long a Sentinel may take to make a primary that came back a replica. It asks such a server
/// every ten seconds, and believes what it hears only the next time or the one after.
const DEMOTION: Duration = Duration::from_secs(80);

pub(crate) struct Group {
    pub(crate) primary: RedisServer,
    replica: RedisServer,
    sentinel: RedisServer,
}

impl Group {
    pub(crate) async fn start() -> Result<Self, BoxError> {
        let primary = RedisServer::start(&[]).await?;
        let port = primary.port().to_string();
        let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &port]).await?;
        let sentinel = RedisServer::sentinel(primary.port()).await?;
        let group = Self {
            primary,
            replica,
            sentinel,
        };
        group.is_watched().await?;
        Ok(group)
    }

    /// Waits until the Sentinel knows the replica, and the replica has all of the primary.
    async fn is_watched(&self) -> Tested {
        let until = Instant::now() + PATIENCE;
        loop {
            let mut wire = self.sentinel.wire().await?;
            let known = wire
                .command(&["SENTINEL", "REPLICAS", "main"])
                .await?
                .list();
            let info = self
                .replica
                .wire()
                .await?
                .command(&["INFO", "replication"])
                .await?;
            let synced = info
                .text()
                .unwrap_or_default()
                .contains("master_link_status:up");
            if known.len() == 1 && synced {
                return Ok(());
            }
            assert!(Instant::now() < until, "no group: {known:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn url(&self) -> String {
        let port = self.sentinel.port();
        format!("redis-sentinel://127.0.0.1:{port}?sentinelServiceName=main")
    }

    pub(crate) fn replica(&self) -> &RedisServer {
        &self.replica
    }

    /// Waits until the replica has what was written.
    pub(crate) async fn is_synced(&self) -> Tested {
        let mut wire = self.primary.wire().await?;
        // Counts for what was written before it by anybody.
        wire.command(&["SET", "mark", "1"]).await?;
        let replicas = wire.command(&["WAIT", "1", "5000"]).await?.number();
        assert_eq!(replicas, Some(1));
        Ok(())
    }

    /// Cuts the replica off, so that nothing more reaches it.
    pub(crate) async fn stop_replication(&self) -> Tested {
        let mut wire = self.primary.wire().await?;
        wire.command(&["ACL", "SETUSER", "default", "-psync", "-sync"])
            .await?;
        let killed = wire.command(&["CLIENT", "KILL", "TYPE", "replica"]).await?;
        assert_eq!(killed.number(), Some(1));
        Ok(())
    }

    /// Whether the Sentinel does nothing for half a minute, because its timer stood still for two
    /// seconds, as on a machine out of breath.
    async fn is_tilted(&self) -> Result<bool, BoxError> {
        let info = self.sentinel.wire().await?.command(&["INFO"]).await?;
        let info = info.text().unwrap_or_default();
        Ok(!info.contains("sentinel_tilt:0"))
    }

    /// As [`soon`], counted anew where the Sentinel did nothing all that time.
    async fn soon<T>(&self, ask: impl AsyncFn() -> Result<T>) -> Result<T, BoxError> {
        match soon(&ask).await {
            Err(_) if self.is_tilted().await? => soon(ask).await,
            answer => answer,
        }
    }

    /// Has the Sentinel take nobody for dead from now on who is slow for a moment: it would promote the
    /// old primary again, which has nothing.
    async fn be_patient(&self) -> Tested {
        let mut wire = self.sentinel.wire().await?;
        let set = [
            "SENTINEL",
            "SET",
            "main",
            "down-after-milliseconds",
            "60000",
        ];
        let answer = wire.command(&set).await?;
        assert_eq!(answer.text().as_deref(), Some("OK"), "{answer:?}");
        Ok(())
    }

    /// Waits until the old primary follows the new one.
    ///
    /// A Sentinel that makes a server a replica ends all connections to it, which may be ours in
    /// the middle of its question.
    async fn is_followed(&self) -> Tested {
        let mut until = Instant::now() + DEMOTION;
        loop {
            let role = is_replica(&self.primary).await;
            if matches!(role, Ok(true)) {
                return Ok(());
            }
            if self.is_tilted().await? {
                until = Instant::now() + DEMOTION;
            }
            if Instant::now() >= until {
                let mut wire = self.sentinel.wire().await?;
                let known = wire.command(&["SENTINEL", "REPLICAS", "main"]).await?;
                let main = wire.command(&["SENTINEL", "MASTER", "main"]).await?;
                return Err(format!("two primaries: {role:?}, {known:?}, {main:?}").into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn cache(&self) -> Result<(RedisStore, RedisDeduplicationCache), BoxError> {
        let store = RedisStore::open_with(options(self.url())).await?;
        let cache = RedisDeduplicationCache::open(&store, "watched").await?;
        Ok((store, cache))
    }

    /// How many of `ids` are remembered by whoever is the primary now.
    async fn known(cache: &RedisDeduplicationCache, ids: &[MessageId]) -> Result<usize, BoxError> {
        let mut known = 0;
        for id in ids {
            let done = soon(async || cache.is_processed(*id, NOW).await).await?;
            known += usize::from(done);
        }
        Ok(known)
    }
}

#[tokio::test]
async fn a_failover_is_followed_and_the_old_primary_comes_back_as_a_replica() -> Tested {
    let mut group = Group::start().await?;
    let (_store, cache) = group.cache().await?;
    let ids = ids(600);
    for id in &ids[..150] {
        assert!(process(&cache, *id).await?);
    }
    group.is_synced().await?;
    for id in &ids[150..200] {
        assert!(process(&cache, *id).await?);
    }
    group.primary.kill().await?;
    let mut away = Instant::now();
    assert!(group.soon(async || process(&cache, ids[200]).await).await?);
    if away.elapsed() >= PATIENCE {
        // So long only while the Sentinel did nothing.
        away = Instant::now();
    }
    for id in &ids[201..400] {
        assert!(soon(async || process(&cache, *id).await).await?);
    }
    assert!(away.elapsed() < PATIENCE, "{:?}", away.elapsed());
    // The last ones may not have reached the replica.
    assert_eq!(Group::known(&cache, &ids[..150]).await?, 150);
    assert_eq!(Group::known(&cache, &ids[200..400]).await?, 200);

    group.be_patient().await?;
    group.primary.restart().await?;
    group.is_followed().await?;
    for id in &ids[400..] {
        assert!(soon(async || process(&cache, *id).await).await?);
    }
    assert_eq!(Group::known(&cache, &ids[200..]).await?, 400);
    Ok(())
}

async fn is_replica(server: &RedisServer) -> Result<bool, BoxError> {
    let info = server
        .wire()
        .await?
        .command(&["INFO", "replication"])
        .await?;
    Ok(info.text().unwrap_or_default().contains("role:slave"))
}

#[tokio::test]
async fn a_primary_that_falls_silent_is_left_for_the_one_that_is_promoted() -> Tested {
    let group = Group::start().await?;
    let (_store, cache) = group.cache().await?;
    let ids = ids(100);
    assert!(process(&cache, ids[0]).await?);
    group.primary.freeze().await?;
    for id in &ids[1..] {
        group.soon(async || process(&cache, *id).await).await?;
    }
    group.primary.thaw().await?;
    assert_eq!(Group::known(&cache, &ids[1..]).await?, 99);
    Ok(())
}

#[tokio::test]
async fn what_a_failover_loses_is_forgotten_and_handled_again() -> Tested {
    let mut group = Group::start().await?;
    let (store, cache) = group.cache().await?;
    let window = Window::Fixed(HOUR);
    let config = RedisLimiterConfig {
        timeout: SECOND,
        ..RedisLimiterConfig::default()
    };
    let limiter = RedisFixedWindowLimiter::new(&store, "watched", 10, window, config)?;
    let ids = ids(20);
    for id in &ids[..10] {
        assert!(process(&cache, *id).await?);
    }
    group.is_synced().await?;
    group.stop_replication().await?;
    for id in &ids[10..] {
        assert!(process(&cache, *id).await?);
    }
    limiter.allow_request(10, NOW).await?;
    group.primary.kill().await?;

    for id in &ids[10..] {
        let claimed = group.soon(async || claim(&cache, *id).await).await?;
        assert!(matches!(claimed, Claim::Acquired(_)), "{claimed:?}");
    }
    assert_eq!(Group::known(&cache, &ids[..10]).await?, 10);
    let decision = limiter.allow_request(10, NOW + HOUR).await?;
    let fresh = outbox_core::ports::RateDecision::Allowed { remaining: 0 };
    assert_eq!(decision, fresh);
    Ok(())
}

#[tokio::test]
async fn a_service_that_no_sentinel_knows_is_told() -> Tested {
    let group = Group::start().await?;
    let url = group.url().replace("=main", "=other");
    let opened = RedisStore::open_with(options(url)).await;
    let error = opened.err().ok_or("nobody knows it")?;
    assert!(error.to_string().contains("names no primary"), "{error}");
    Ok(())
}
