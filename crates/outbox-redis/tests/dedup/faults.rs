//! Servers that crash, forget, are full, or hold what is not ours.

use outbox_core::OutboxError;
use outbox_redis::RedisOptions;
use outbox_redis_harness::{DURABLE, Fault, Proxy};
use tokio::time::{Instant, sleep};

use super::*;

/// A cache that is told within half a second when its server is away.
async fn hasty(url: String, layout: DedupLayout) -> Result<RedisDeduplicationCache, BoxError> {
    let options = RedisOptions::new(url)
        .command_timeout(Duration::from_millis(500))
        .reconnect(Duration::from_millis(10), Duration::from_millis(50));
    let store = RedisStore::open_with(options).await?;
    Ok(RedisDeduplicationCache::open_with(&store, "test", layout).await?)
}

/// The claim of one id, once the server is reached again.
async fn claim_again(cache: &RedisDeduplicationCache, id: MessageId) -> Result<Claim, BoxError> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match cache.claim(&[id], LEASE, NOW).await {
            Ok(claims) => return Ok(claims[0]),
            Err(error) if error.is_transient() && Instant::now() < until => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[tokio::test]
async fn what_a_killed_server_has_on_its_disk_it_remembers_and_nothing_else() -> Tested {
    for layout in LAYOUTS {
        for (args, kept) in [(DURABLE, true), (&[], false)] {
            let mut scene = Scene::new(args, layout).await?;
            let ids = ids(2);
            scene.process(&ids[..1]).await?;
            scene.acquire(&ids[1..]).await?;
            scene.server.kill().await?;
            scene.server.restart().await?;
            let cache = hasty(scene.server.url(), layout).await?;
            let done = claim_again(&cache, ids[0]).await?;
            let held = claim_again(&cache, ids[1]).await?;
            if kept {
                assert_eq!(done, Claim::Done);
                assert!(matches!(held, Claim::InProgress { .. }), "{held:?}");
            } else {
                assert!(matches!(
                    (done, held),
                    (Claim::Acquired(_), Claim::Acquired(_))
                ));
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_holds_no_longer_than_its_lease() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let proxy = Proxy::before(server.port()).await?;
    let cache = hasty(proxy.url(), DedupLayout::Plain).await?;
    let id = ids(1)[0];
    cache.claim(&ids(2)[1..], LEASE, NOW).await?;

    proxy.set(Fault::SwallowReplies);
    let lease = Duration::from_secs(2);
    let began = Instant::now();
    let lost = cache.claim(&[id], lease, NOW).await;
    assert!(lost.is_err_and(|error| error.is_transient()));
    proxy.set(Fault::None);
    let held = claim_again(&cache, id).await?;
    assert!(matches!(held, Claim::InProgress { .. }), "{held:?}");
    while !matches!(claim_again(&cache, id).await?, Claim::Acquired(_)) {
        assert!(began.elapsed() < lease * 3);
        sleep(lease / 20).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_forgot_its_scripts_is_told_them_again() -> Tested {
    let scene = Scene::new(&[], DedupLayout::Plain).await?;
    let mut wire = scene.server.wire().await?;
    for id in ids(3) {
        scene.process(&[id]).await?;
        wire.command(&["SCRIPT", "FLUSH"]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_full_server_refuses_new_claims_for_now_and_lets_old_ones_end() -> Tested {
    for layout in LAYOUTS {
        let scene = Scene::new(&[], layout).await?;
        let mut wire = scene.server.wire().await?;
        let ids = ids(4);
        let claims = scene.acquire(&ids[..2]).await?;
        wire.command(&["CONFIG", "SET", "maxmemory", "1"]).await?;
        let refused = scene.cache.claim(&ids[2..], LEASE, NOW).await;
        let error = refused.err().ok_or("the server is full")?;
        assert!(
            error.is_transient() && error.to_string().contains("memory"),
            "{error}"
        );
        assert_eq!(scene.cache.extend(&claims, LEASE, NOW).await?, [true; 2]);
        assert_eq!(scene.cache.release(&claims[..1], NOW).await?, [true]);
        let done = scene.cache.complete(&claims[1..], TTL, NOW).await?;
        assert_eq!(done, [true]);

        wire.command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
        scene.acquire(&ids[2..]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_key_of_another_type_is_named_and_stops_no_other_id() -> Tested {
    let scene = Scene::new(&[], DedupLayout::Plain).await?;
    let mut wire = scene.server.wire().await?;
    let ids = ids(2);
    let key = format!("outbox:{{test}}:id:{}", ids[0]);
    wire.command(&["RPUSH", &key, "not ours"]).await?;
    let error = scene.cache.claim(&ids[..1], LEASE, NOW).await.err();
    let error = error.ok_or("the key is a list")?;
    let told = error.to_string();
    assert!(
        !error.is_transient() && told.contains(&key) && told.contains("type"),
        "{told}"
    );
    scene.process(&ids[1..]).await?;
    Ok(())
}

#[tokio::test]
async fn another_layout_is_refused_with_both() -> Tested {
    let scene = Scene::new(&[], PACKED).await?;
    let store = RedisStore::open(scene.server.url()).await?;
    let smaller = DedupLayout::Compact(CompactLayout {
        expected: 1_000,
        ..CompactLayout::default()
    });
    for other in [DedupLayout::Plain, smaller] {
        let opened = RedisDeduplicationCache::open_with(&store, "test", other).await;
        let error = opened.err().ok_or("it is laid out otherwise")?;
        assert!(matches!(error, OutboxError::Config(_)), "{error:?}");
        assert!(error.to_string().contains("compact: 3600000 ms"), "{error}");
        RedisDeduplicationCache::open_with(&store, "other", DedupLayout::Plain).await?;
    }
    RedisDeduplicationCache::open_with(&store, "test", PACKED).await?;
    Ok(())
}

#[tokio::test]
async fn a_name_or_a_shape_that_cannot_be_is_told_before_anything_is_asked() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let store = RedisStore::open(server.url()).await?;
    let empty = DedupLayout::Compact(CompactLayout {
        expected: 0,
        ..CompactLayout::default()
    });
    for (name, layout) in [("", PACKED), ("a{b}", PACKED), ("fine", empty)] {
        let opened = RedisDeduplicationCache::open_with(&store, name, layout).await;
        assert!(matches!(opened, Err(OutboxError::Config(_))), "{opened:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_command_that_is_not_permitted_is_named() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let mut wire = server.wire().await?;
    for (user, rule, named) in [
        ("no-scripts", "-evalsha", "'evalsha'"),
        ("no-get", "-get", "GET"),
    ] {
        wire.command(&[
            "ACL", "SETUSER", user, "on", ">pw", "~*", "&*", "+@all", rule,
        ])
        .await?;
        let options = RedisOptions::new(server.url()).user(user, "pw");
        let store = RedisStore::open_with(options).await?;
        let cache = RedisDeduplicationCache::open(&store, user).await?;
        let answer = cache.is_processed(ids(1)[0], NOW).await;
        let error = answer.err().ok_or("it is not permitted")?;
        let told = error.to_string();
        assert!(!error.is_transient() && told.contains(named), "{told}");
        assert!(told.contains("does not permit"), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn a_completion_that_is_refused_halfway_is_known_to_the_next_claim() -> Tested {
    let scene = Scene::new(&[], SETS).await?;
    let mut wire = scene.server.wire().await?;
    for (user, rule) in [("no-hdel", "-hdel"), ("no-unlink", "-unlink")] {
        wire.command(&[
            "ACL", "SETUSER", user, "on", ">pw", "~*", "&*", "+@all", rule,
        ])
        .await?;
        let options = RedisOptions::new(scene.server.url()).user(user, "pw");
        let store = RedisStore::open_with(options).await?;
        let cache = RedisDeduplicationCache::open_with(&store, "test", SETS).await?;
        let id = MessageId::new(NOW, &Entropy::from_system());
        let claims = scene.acquire(&[id]).await?;
        let error = cache.complete(&claims, TTL, NOW).await.err();
        let told = error.ok_or("it is not permitted")?.to_string();
        assert!(told.contains("does not permit"), "{told}");
        assert_eq!(scene.cache.claim(&[id], LEASE, NOW).await?, [Claim::Done]);
    }
    Ok(())
}
