//! Servers that crash, fall silent, are full, or hold what is not ours.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use outbox_core::OutboxError;
use outbox_core::id::MessageId;
use outbox_core::memory::FailureMode;
use outbox_core::ports::DeduplicationCache;
use outbox_redis::RedisDeduplicationCache;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::*;

const HASTE: Duration = Duration::from_millis(100);

fn hasty(on_failure: FailureMode) -> RedisLimiterConfig {
    RedisLimiterConfig {
        timeout: HASTE,
        on_failure,
    }
}

fn closed() -> FailureMode {
    FailureMode::Closed {
        retry_after: SECOND * 7,
    }
}

async fn open(server: &RedisServer) -> Result<RedisStore, BoxError> {
    let options = RedisOptions::new(server.url())
        .reconnect(Duration::from_millis(10), Duration::from_millis(50));
    Ok(RedisStore::open_with(options).await?)
}

/// Waits until `limiter` gives a permit again at a time of its own after `NOW`.
async fn comes_back(limiter: &dyn RateLimiter) -> Tested {
    let began = Instant::now();
    loop {
        let decision = limiter
            .allow_request(1, NOW + HOUR + began.elapsed())
            .await?;
        if let RateDecision::Allowed { remaining: 9 } = decision {
            return Ok(());
        }
        assert!(began.elapsed() < SECOND * 10, "{decision:?}");
        sleep(HASTE / 10).await;
    }
}

#[tokio::test]
async fn closed_without_the_server_nothing_is_allowed() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let store = open(&server).await?;
    for limiter in limiters(&store, hasty(closed()))? {
        server.freeze().await?;
        let began = Instant::now();
        for _ in 0..3 {
            let decision = limiter.allow_request(1, NOW).await?;
            let retry_after = SECOND * 7;
            assert_eq!(decision, RateDecision::Limited { retry_after });
        }
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
        server.thaw().await?;
        server.wire().await?.command(&["FLUSHALL"]).await?;
        comes_back(&*limiter).await?;
    }
    Ok(())
}

#[tokio::test]
async fn open_without_the_server_each_process_has_its_ceiling() -> Tested {
    let mut server = RedisServer::start(&[]).await?;
    let store = open(&server).await?;
    let ceiling = Quota::new(3, HOUR, 3)?;
    server.kill().await?;
    for limiter in limiters(&store, hasty(FailureMode::Open { ceiling }))? {
        for remaining in [2, 1, 0] {
            let decision = limiter.allow_request(1, NOW).await?;
            assert_eq!(decision, RateDecision::Allowed { remaining });
        }
        assert!(!takes(&*limiter, 1).await?);
    }
    server.restart().await?;
    for limiter in limiters(&store, hasty(FailureMode::Open { ceiling }))? {
        comes_back(&*limiter).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_limiter_in_a_hurry_takes_nobody_elses_connection_away() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let store = open(&server).await?;
    let cache = RedisDeduplicationCache::open(&store, "patient").await?;
    let [limiter, _] = limiters(&store, hasty(closed()))?;
    server.freeze().await?;
    let claiming = tokio::spawn(async move {
        let id = MessageId::from_bytes([7; 16]);
        cache.claim(&[id], HOUR, NOW).await
    });
    assert!(!takes(&*limiter, 1).await?);
    sleep(HASTE * 4).await;
    server.thaw().await?;
    claiming.await??;
    Ok(())
}

#[tokio::test]
async fn what_can_never_be_allowed_is_told_without_asking() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let store = open(&server).await?;
    server.freeze().await?;
    for limiter in limiters(&store, hasty(closed()))? {
        let answer = limiter.allow_request(11, NOW).await;
        let refused = matches!(
            answer,
            Err(OutboxError::Limit {
                actual: 11,
                limit: 10,
                ..
            })
        );
        assert!(refused, "{answer:?}");
    }
    Ok(())
}

#[tokio::test]
async fn no_kill_leaves_a_counter_without_an_end() -> Tested {
    let mut server = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "no"]).await?;
    for round in 0..4 {
        let store = open(&server).await?;
        let mut tasks = JoinSet::new();
        let taken = Arc::new(AtomicU64::new(0));
        for number in 0..40 {
            let window = Window::Fixed(HOUR);
            let name = format!("limiter-{round}-{number}");
            let limiter = RedisFixedWindowLimiter::new(&store, &name, 1_000, window, patient())?;
            let taken = Arc::clone(&taken);
            tasks.spawn(async move {
                for _ in 0..1_000 {
                    limiter.allow_request(1, NOW).await.ok();
                    taken.fetch_add(1, SeqCst);
                }
            });
        }
        while taken.load(SeqCst) < 5 + 40 * round {
            tokio::task::yield_now().await;
        }
        server.kill().await?;
        tasks.abort_all();
        server.restart().await?;
        let mut wire = server.wire().await?;
        assert!(wire.command(&["DBSIZE"]).await?.number() > Some(0));
        assert_eq!(endless(&mut wire).await?, Vec::<String>::new());
    }
    Ok(())
}

#[tokio::test]
async fn a_full_server_counts_as_one_that_is_away() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let store = open(&server).await?;
    let mut wire = server.wire().await?;
    wire.command(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    for limiter in limiters(&store, hasty(closed()))? {
        let retry_after = SECOND * 7;
        let decision = limiter.allow_request(1, NOW).await?;
        assert_eq!(decision, RateDecision::Limited { retry_after });
    }
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_not_ours_is_named_and_not_covered_up() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let store = open(&server).await?;
    let mut wire = server.wire().await?;
    let keys = ["outbox:{window}:window", "outbox:{steady}:debt"];
    for key in keys {
        wire.command(&["RPUSH", key, "not ours"]).await?;
    }
    for (limiter, key) in limiters(&store, patient())?.iter().zip(keys) {
        for answer in [
            limiter.allow_request(1, NOW).await.map(drop),
            limiter.refund(1, NOW, NOW).await,
        ] {
            let error = answer.err().ok_or("the key is a list")?;
            let told = error.to_string();
            assert!(!error.is_transient() && told.contains(key), "{told}");
        }
    }
    wire.command(&["SET", keys[1], "neither"]).await?;
    let [_, steady] = limiters(&store, patient())?;
    let error = steady
        .allow_request(1, NOW)
        .await
        .err()
        .ok_or("no moment")?;
    assert!(error.to_string().contains("holds no moment"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_command_that_is_not_permitted_is_named() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let mut wire = server.wire().await?;
    let rules = ["-hset", "-set"];
    wire.command(&[
        "ACL", "SETUSER", "u", "on", ">pw", "~*", "&*", "+@all", rules[0], rules[1],
    ])
    .await?;
    let store = RedisStore::open_with(RedisOptions::new(server.url()).user("u", "pw")).await?;
    for (limiter, command) in limiters(&store, patient())?.iter().zip(["HSET", "SET"]) {
        let answer = limiter.allow_request(1, NOW).await;
        let error = answer.err().ok_or("it is not permitted")?;
        let told = error.to_string();
        assert!(!error.is_transient() && told.contains(command), "{told}");
        assert!(told.contains("does not permit"), "{told}");
    }
    Ok(())
}

#[tokio::test]
async fn settings_that_cannot_be_are_told_with_every_problem() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let store = open(&server).await?;
    let config = RedisLimiterConfig {
        timeout: Duration::ZERO,
        ..patient()
    };
    let quota = Quota::new(1, HOUR, 2)?;
    let error = RedisGcraLimiter::new(&store, "{}", quota, config).err();
    let Some(OutboxError::Config(error)) = error else {
        return Err(format!("{error:?}").into());
    };
    assert_eq!(error.problems.len(), 2, "{error}");
    let century = Quota::new(1, HOUR * 24 * 365, 101)?;
    assert!(RedisGcraLimiter::new(&store, "slow", century, patient()).is_err());
    Ok(())
}
