//! Leases and lifetimes are measured by the server.

use outbox_core::time::{Clock, SystemClock};
use outbox_redis::RedisOptions;
use outbox_redis_harness::Wire;
use tokio::time::{Instant, sleep};

use super::*;

const SHORT: Duration = Duration::from_millis(200);

/// Every key on the server that has no end, but those that tell how a cache is laid out.
async fn endless(wire: &mut Wire) -> Result<Vec<String>, BoxError> {
    let mut endless = Vec::new();
    for key in wire.command(&["KEYS", "*"]).await?.list() {
        let key = key.text().ok_or("a key is a text")?;
        let left = wire.command(&["PTTL", &key]).await?.number();
        if left.is_none_or(|left| left < 0) && !key.ends_with(":layout") {
            endless.push(key);
        }
    }
    Ok(endless)
}

#[tokio::test]
async fn a_lease_is_as_long_as_the_server_says_whatever_callers_believe() -> Tested {
    for layout in LAYOUTS {
        let scene = Scene::new(&[], layout).await?;
        let [id] = ids(1)[..] else { unreachable!() };
        let began = Instant::now();
        scene.cache.claim(&[id], SHORT, NOW).await?;
        let years_later = NOW + TTL * 24 * 400;
        loop {
            let claims = scene.cache.claim(&[id], LEASE, years_later).await?;
            let Claim::InProgress { until } = claims[0] else {
                assert!(matches!(claims[0], Claim::Acquired(_)), "{claims:?}");
                break;
            };
            assert!(
                until > years_later && until <= years_later + SHORT,
                "{until}"
            );
            assert!(began.elapsed() < LEASE);
            sleep(SHORT / 20).await;
        }
        assert!(began.elapsed() >= SHORT, "{:?}", began.elapsed());
    }
    Ok(())
}

async fn early_in_a_second() {
    let into = SystemClock.now().as_micros().rem_euclid(1_000_000);
    if into > 500_000 {
        sleep(Duration::from_micros(1_050_000 - into as u64)).await;
    }
}

#[tokio::test]
async fn a_claim_that_is_refused_before_its_end_is_noted_goes_once_its_rotation_is_over() -> Tested
{
    let layout = DedupLayout::Sets(SetsLayout {
        longest: Duration::from_secs(2),
        rotation: Duration::from_secs(1),
    });
    let scene = Scene::new(&[], layout).await?;
    let mut wire = scene.server.wire().await?;
    wire.command(&[
        "ACL",
        "SETUSER",
        "endless",
        "on",
        ">pw",
        "~*",
        "&*",
        "+@all",
        "-pexpireat",
    ])
    .await?;
    let options = RedisOptions::new(scene.server.url()).user("endless", "pw");
    let store = RedisStore::open_with(options).await?;
    let cache = RedisDeduplicationCache::open_with(&store, "test", layout).await?;
    // Early in one rotation: the claim is among those that end with the next.
    early_in_a_second().await;
    let refused = cache.claim(&ids(1), SHORT, NOW).await.err();
    let told = refused.ok_or("it is not permitted")?.to_string();
    assert!(told.contains("does not permit"), "{told}");
    assert_eq!(endless(&mut wire).await?.len(), 1);
    sleep(Duration::from_secs(2)).await;
    let id = MessageId::new(NOW, &Entropy::from_system());
    let claims = scene.cache.claim(&[id], SHORT, NOW).await?;
    let Claim::Acquired(token) = claims[0] else {
        return Err("an id of nobody's is acquired".into());
    };
    scene.cache.complete(&[(id, token)], SHORT, NOW).await?;
    assert_eq!(endless(&mut wire).await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn whatever_is_done_every_id_ends() -> Tested {
    for layout in LAYOUTS {
        let scene = Scene::new(&[], layout).await?;
        let (ids, cache) = (ids(50), &scene.cache);
        let claims = scene.acquire(&ids).await?;
        cache.extend(&claims[..40], LEASE, NOW).await?;
        cache.complete(&claims[..30], TTL, NOW).await?;
        cache.release(&claims[30..35], NOW).await?;
        for id in &ids[25..45] {
            cache.record_processed(*id, TTL / 2, NOW).await?;
        }
        let mut wire = scene.server.wire().await?;
        // The layout, a set and a hash, where not each id has a key.
        let keys = if layout == SETS { 3 } else { 21 };
        assert!(wire.command(&["DBSIZE"]).await?.number() >= Some(keys));
        assert_eq!(endless(&mut wire).await?, Vec::<String>::new());
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_lost_its_end_holds_nobody_up() -> Tested {
    let scene = Scene::new(&[], DedupLayout::Plain).await?;
    let ids = ids(1);
    scene.acquire(&ids).await?;
    let mut wire = scene.server.wire().await?;
    let key = format!("outbox:{{test}}:id:{}", ids[0]);
    assert_eq!(wire.command(&["PERSIST", &key]).await?.number(), Some(1));
    scene.acquire(&ids).await?;
    assert_eq!(endless(&mut wire).await?, Vec::<String>::new());
    Ok(())
}

/// Longer than the longest time is refused; what is done is forgotten with its rotation, and nothing
/// is left of it.
async fn ids_go_with_their_rotation(second: Duration, layout: DedupLayout) -> Tested {
    let scene = Scene::new(&[], layout).await?;
    let ids = ids(10);
    let claims = scene.cache.claim(&ids, second, NOW).await?;
    let claims: Vec<_> = ids.iter().zip(claims).collect();
    let token = |claim: &(&MessageId, Claim)| match claim.1 {
        Claim::Acquired(token) => Some((*claim.0, token)),
        _ => None,
    };
    let claims: Vec<_> = claims.iter().filter_map(token).collect();
    let began = Instant::now();
    let done = scene.cache.complete(&claims, second, NOW).await?;
    assert_eq!(done, [true; 10]);
    while scene.cache.is_processed(ids[0], NOW).await? {
        assert!(began.elapsed() < second * 3);
        sleep(second / 50).await;
    }
    assert!(began.elapsed() >= second, "{:?}", began.elapsed());
    let mut wire = scene.server.wire().await?;
    while wire.command(&["DBSIZE"]).await?.number() != Some(1) {
        assert!(began.elapsed() < second * 9, "more than the layout is kept");
        sleep(second / 50).await;
    }
    let longer = scene.cache.record_processed(ids[0], second * 2, NOW).await;
    let told = longer.err().ok_or("longer than the longest")?.to_string();
    assert!(told.contains("limit of 1"), "{told}");
    Ok(())
}

#[tokio::test]
async fn packed_ids_are_forgotten_with_their_rotation() -> Tested {
    let second = Duration::from_secs(1);
    let layout = DedupLayout::Compact(CompactLayout {
        longest: second,
        rotation: second,
        expected: 1_000,
    });
    ids_go_with_their_rotation(second, layout).await
}

#[tokio::test]
async fn ids_in_sets_are_forgotten_with_their_rotation() -> Tested {
    let second = Duration::from_secs(1);
    let layout = DedupLayout::Sets(SetsLayout {
        longest: second,
        rotation: second,
    });
    ids_go_with_their_rotation(second, layout).await
}

#[tokio::test]
async fn a_claim_in_a_hash_lives_through_turns_and_may_not_be_longer_than_ids_are_kept() -> Tested {
    let second = Duration::from_secs(1);
    let layout = DedupLayout::Sets(SetsLayout {
        longest: second * 3,
        rotation: second,
    });
    let scene = Scene::new(&[], layout).await?;
    let ids = ids(3);
    let lease = second * 3 / 2;
    let Claim::Acquired(token) = scene.cache.claim(&ids[..1], lease, NOW).await?[0] else {
        return Err("nobody else is there".into());
    };
    let claim = [(ids[0], token)];
    for _ in 0..6 {
        sleep(second / 2).await;
        assert_eq!(scene.cache.extend(&claim, lease, NOW).await?, [true]);
        let other = scene.cache.claim(&ids[..1], lease, NOW).await?;
        assert!(matches!(other[0], Claim::InProgress { .. }), "{other:?}");
    }
    assert_eq!(scene.cache.complete(&claim, second, NOW).await?, [true]);
    assert_eq!(
        scene.cache.claim(&ids[..1], lease, NOW).await?,
        [Claim::Done]
    );
    let longer = scene.cache.claim(&ids[1..], LEASE, NOW).await;
    let told = longer.err().ok_or("longer than the longest")?.to_string();
    assert!(
        told.contains("claimed") && told.contains("limit of 3"),
        "{told}"
    );
    Ok(())
}

#[tokio::test]
async fn many_ids_take_several_scripts() -> Tested {
    for layout in LAYOUTS {
        let scene = Scene::new(&[], layout).await?;
        let ids = ids(2_500);
        scene.process(&ids).await?;
        let claims = scene.cache.claim(&ids, LEASE, NOW).await?;
        assert!(claims.iter().all(|claim| *claim == Claim::Done));
    }
    Ok(())
}

#[tokio::test]
async fn a_repeated_id_is_in_progress_however_short_its_lease_is() -> Tested {
    let scene = Scene::new(&[], SETS).await?;
    let [id] = ids(1)[..] else { unreachable!() };
    let claims = scene.cache.claim(&[id, id], Duration::ZERO, NOW).await?;
    assert!(
        matches!(claims[..], [Claim::Acquired(_), Claim::InProgress { .. }]),
        "{claims:?}"
    );
    Ok(())
}
