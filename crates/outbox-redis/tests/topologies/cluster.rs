//! Three nodes, each with a third of the slots.

use outbox_core::policy::{Quota, Window};
use outbox_core::ports::{RateDecision, RateLimiter};
use outbox_redis::{
    CompactLayout, DedupLayout, RedisFixedWindowLimiter, RedisGcraLimiter, RedisLimiterConfig,
    SetsLayout,
};
use outbox_redis_harness::{Fault, Proxy, RedisCluster, Wire};

use super::*;

/// Names whose keys lie on the first, the second and the third node.
pub(crate) async fn a_name_for_each_node(cluster: &RedisCluster) -> Result<Vec<String>, BoxError> {
    let mut names = vec![None; 3];
    for number in 0..100 {
        let name = format!("cache-{number}");
        let home = cluster
            .home_of(&format!("outbox:{{{name}}}:layout"))
            .await?;
        names[home].get_or_insert(name);
    }
    let names: Option<Vec<_>> = names.into_iter().collect();
    names.ok_or_else(|| "a node has no name of a hundred".into())
}

fn limiter_config() -> RedisLimiterConfig {
    RedisLimiterConfig {
        timeout: SECOND,
        ..RedisLimiterConfig::default()
    }
}

#[tokio::test]
async fn caches_and_limiters_work_wherever_their_keys_lie() -> Tested {
    let cluster = RedisCluster::start().await?;
    let store = RedisStore::open_with(options(cluster.url())).await?;
    let packed = DedupLayout::Compact(CompactLayout {
        longest: HOUR,
        rotation: HOUR,
        expected: 1_000,
    });
    let sets = DedupLayout::Sets(SetsLayout {
        longest: HOUR,
        rotation: HOUR,
    });
    let ids = ids(300);
    for name in a_name_for_each_node(&cluster).await? {
        for (name, layout) in [
            (name.clone(), DedupLayout::Plain),
            (format!("{name}-p"), packed),
            (format!("{name}-s"), sets),
        ] {
            let cache = RedisDeduplicationCache::open_with(&store, &name, layout).await?;
            let claims = cache.claim(&ids, HOUR, NOW).await?;
            let acquired = ids
                .iter()
                .zip(claims)
                .filter_map(|(id, claim)| match claim {
                    Claim::Acquired(token) => Some((*id, token)),
                    _ => None,
                });
            let acquired: Vec<_> = acquired.collect();
            assert_eq!(acquired.len(), 300);
            assert_eq!(cache.extend(&acquired, HOUR, NOW).await?, [true; 300]);
            assert_eq!(cache.complete(&acquired, HOUR, NOW).await?, [true; 300]);
            assert!(cache.is_processed(ids[0], NOW).await?);
        }
        let window = Window::Fixed(HOUR);
        let windows = RedisFixedWindowLimiter::new(&store, &name, 5, window, limiter_config())?;
        let quota = Quota::new(1, HOUR, 5)?;
        let steady = RedisGcraLimiter::new(&store, &name, quota, limiter_config())?;
        for limiter in [&windows as &dyn RateLimiter, &steady] {
            let decision = limiter.allow_request(5, NOW).await?;
            assert_eq!(decision, RateDecision::Allowed { remaining: 0 });
            limiter.refund(5, NOW, NOW).await?;
            let decision = limiter.allow_request(5, NOW).await?;
            assert_eq!(decision, RateDecision::Allowed { remaining: 0 });
        }
    }
    assert!(every_node_has_keys(&cluster).await?);
    Ok(())
}

async fn every_node_has_keys(cluster: &RedisCluster) -> Result<bool, BoxError> {
    for node in cluster.nodes() {
        let mut wire: Wire = node.wire().await?;
        if wire.command(&["DBSIZE"]).await?.number() < Some(1) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[tokio::test]
async fn a_slot_that_moves_takes_its_ids_along() -> Tested {
    let cluster = RedisCluster::start().await?;
    let store = RedisStore::open_with(options(cluster.url())).await?;
    let cache = RedisDeduplicationCache::open(&store, "moving").await?;
    let ids = ids(400);
    for id in &ids[..200] {
        process(&cache, *id).await?;
    }
    let key = "outbox:{moving}:layout";
    let home = cluster.home_of(key).await?;
    cluster.move_slot(key, home, (home + 1) % 3).await?;
    for id in &ids[200..] {
        assert!(soon(async || process(&cache, *id).await).await?);
    }
    let claims = cache.claim(&ids, HOUR, NOW).await?;
    assert!(claims.iter().all(|claim| *claim == Claim::Done));
    Ok(())
}

/// A cache on each node.
async fn caches(
    cluster: &RedisCluster,
    store: &RedisStore,
) -> Result<Vec<RedisDeduplicationCache>, BoxError> {
    let mut caches = Vec::new();
    for name in a_name_for_each_node(cluster).await? {
        caches.push(RedisDeduplicationCache::open(store, &name).await?);
    }
    Ok(caches)
}

#[tokio::test]
async fn a_node_that_is_away_is_told_in_time_and_found_again() -> Tested {
    let mut cluster = RedisCluster::start().await?;
    let store = RedisStore::open_with(options(cluster.url())).await?;
    let caches = caches(&cluster, &store).await?;
    let id = ids(1)[0];
    cluster.kill(2).await?;
    for _ in 0..3 {
        for cache in &caches {
            let asked = Instant::now();
            let answer = process(cache, id).await;
            assert!(asked.elapsed() < SECOND * 3, "{:?}", asked.elapsed());
            assert!(answer.is_ok() || answer.is_err_and(|error| error.is_transient()));
        }
    }
    cluster.restart(2).await?;
    for cache in &caches {
        soon(async || process(cache, id).await).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_replica_that_takes_over_from_its_node_is_found() -> Tested {
    let mut cluster = RedisCluster::start().await?;
    cluster.add_replica_of(2).await?;
    let store = RedisStore::open_with(options(cluster.url())).await?;
    let caches = caches(&cluster, &store).await?;
    let ids = ids(60);
    for cache in &caches {
        for id in &ids[..20] {
            process(cache, *id).await?;
        }
    }
    cluster.kill(2).await?;
    for id in &ids[20..] {
        for cache in &caches {
            assert!(soon(async || process(cache, *id).await).await?);
        }
    }
    for cache in &caches {
        assert_eq!(claim(cache, ids[40]).await?, Claim::Done);
    }
    Ok(())
}

#[tokio::test]
async fn connections_that_are_dead_on_all_nodes_are_replaced() -> Tested {
    let cluster = RedisCluster::start().await?;
    let mut proxies = Vec::new();
    for (place, node) in cluster.nodes().iter().enumerate() {
        let proxy = Proxy::before(node.port()).await?;
        cluster.announce(place, proxy.port()).await?;
        proxies.push(proxy);
    }
    let url = format!("redis-cluster://127.0.0.1:{}", proxies[0].port());
    let store = RedisStore::open_with(options(url)).await?;
    let caches = caches(&cluster, &store).await?;
    let ids = ids(4);
    for cache in &caches {
        process(cache, ids[0]).await?;
    }
    for id in &ids[1..] {
        proxies
            .iter()
            .for_each(|proxy| proxy.set(Fault::SwallowReplies));
        for cache in &caches {
            let lost = process(cache, *id).await;
            assert!(lost.is_err_and(|error| error.is_transient()));
        }
        // From now on they pass everything on, but not on connections that have lost something.
        proxies.iter().for_each(|proxy| proxy.set(Fault::None));
        for cache in &caches {
            let added = soon(async || process(cache, *id).await).await?;
            assert!(!added, "what was sent had taken effect");
        }
    }
    Ok(())
}
