//! What a server must be to be opened, and how one that is not is told.

use std::time::Duration;

use outbox_core::OutboxError;
use outbox_core::ports::{Health, HealthCheck};
use outbox_core::time::Timestamp;
use outbox_redis::{Eviction, RedisOptions, RedisStore};
use outbox_redis_harness::{BoxError, Fault, Proxy, RedisServer, Shared};
use tokio::time::{Instant, sleep};

type Tested = Result<(), BoxError>;

/// The text of the error that opening ends with, and whether trying again may help.
async fn told_of(options: RedisOptions) -> Result<(String, bool), BoxError> {
    let opened = RedisStore::open_with(options).await;
    let error = opened.err().ok_or("it was opened")?;
    assert!(matches!(error, OutboxError::Backend { .. }), "{error:?}");
    Ok((error.to_string(), error.is_transient()))
}

#[tokio::test]
async fn a_shared_server_is_opened_and_closed() -> Tested {
    let shared = Shared::start().await?;
    let store = RedisStore::open(shared.url()).await?;
    assert_eq!(store.check(Timestamp::EPOCH).await, Health::Healthy);
    store.close().await;
    store.close().await;
    let health = store.check(Timestamp::EPOCH).await;
    assert_eq!(health, Health::Unhealthy("closed".to_owned()));
    Ok(())
}

#[tokio::test]
async fn closing_and_dropping_leave_no_connection() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let mut wire = server.wire().await?;
    for _ in 0..5 {
        let store = RedisStore::open(server.url()).await?;
        store.close().await;
        drop(RedisStore::open(server.url()).await?);
    }
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let clients = wire.command(&["CLIENT", "LIST"]).await?.text();
        let clients = clients.unwrap_or_default().lines().count();
        if clients == 1 {
            return Ok(());
        }
        assert!(Instant::now() < until, "{clients} connections");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_told_at_once() -> Tested {
    let (text, transient) = told_of(RedisOptions::new("redis://127.0.0.1:1")).await?;
    assert!(text.contains("127.0.0.1:1 cannot be reached"), "{text}");
    assert!(transient);
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_told_in_time() -> Tested {
    let server = RedisServer::start(&[]).await?;
    server.freeze().await?;
    let options = RedisOptions::new(server.url())
        .connect_timeout(Duration::from_millis(300))
        .command_timeout(Duration::from_millis(300));
    let began = Instant::now();
    let (text, transient) = told_of(options).await?;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(text.contains("does not answer in time"), "{text}");
    assert!(transient);
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_told() -> Tested {
    let server = RedisServer::start(&["--requirepass", "right"]).await?;
    let options = || RedisOptions::new(server.url());
    let wrong = [
        options().password("wrong"),
        options(),
        options().user("nobody", "right"),
    ];
    for refused in wrong {
        let (text, transient) = told_of(refused).await?;
        let place = format!(
            "127.0.0.1:{} refuses the user or the password",
            server.port()
        );
        assert!(text.contains(&place) && !transient, "{text}");
    }
    RedisStore::open_with(options().password("right")).await?;
    Ok(())
}

#[tokio::test]
async fn a_command_that_is_not_permitted_is_named() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let mut wire = server.wire().await?;
    for (name, rule) in [("mute", "-ping"), ("blind", "-info")] {
        wire.command(&[
            "ACL", "SETUSER", name, "on", ">pw", "~*", "&*", "+@all", rule,
        ])
        .await?;
    }
    let options = |name| RedisOptions::new(server.url()).user(name, "pw");
    let (text, transient) = told_of(options("mute")).await?;
    assert!(
        text.contains("does not permit") && text.contains("'ping'"),
        "{text}"
    );
    assert!(!transient);
    // Who may not look is not shut out by that.
    RedisStore::open_with(options("blind")).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_throws_keys_away_is_refused_unless_one_insists() -> Tested {
    let server = RedisServer::start(&["--maxmemory-policy", "allkeys-lru"]).await?;
    let options = || RedisOptions::new(server.url());
    let (text, transient) = told_of(options()).await?;
    assert!(
        text.contains("allkeys-lru") && text.contains("noeviction"),
        "{text}"
    );
    assert!(!transient);
    RedisStore::open_with(options().eviction(Eviction::Warn)).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_without_a_needed_command_is_refused() -> Tested {
    let server = RedisServer::start(&["--rename-command", "XAUTOCLAIM", ""]).await?;
    let (text, transient) = told_of(RedisOptions::new(server.url())).await?;
    assert!(
        text.contains("XAUTOCLAIM") && text.contains("7.0"),
        "{text}"
    );
    assert!(!transient);
    Ok(())
}

#[tokio::test]
async fn a_store_finds_its_server_again() -> Tested {
    let mut server = RedisServer::start(&[]).await?;
    let proxy = Proxy::before(server.port()).await?;
    let options = RedisOptions::new(proxy.url())
        .command_timeout(Duration::from_millis(300))
        .reconnect(Duration::from_millis(10), Duration::from_millis(50));
    let store = RedisStore::open_with(options).await?;
    let healthy = async || store.check(Timestamp::EPOCH).await == Health::Healthy;

    proxy.cut();
    within_reach("cut", &healthy).await;
    proxy.set(Fault::HalfOpen);
    assert!(!healthy().await);
    proxy.set(Fault::None);
    within_reach("half-open", &healthy).await;
    server.kill().await?;
    assert!(!healthy().await);
    server.restart().await?;
    within_reach("killed", &healthy).await;
    Ok(())
}

async fn within_reach(after: &str, healthy: &impl AsyncFn() -> bool) {
    let until = Instant::now() + Duration::from_secs(5);
    while !healthy().await {
        assert!(Instant::now() < until, "not reached within 5 s: {after}");
    }
}
