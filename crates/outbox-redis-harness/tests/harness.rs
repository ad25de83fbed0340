//! The servers and faults that other tests stand on are what they say.

use std::time::Duration;

use outbox_redis_harness::{Answer, BoxError, DURABLE, Fault, Proxy, RedisServer, Shared, Wire};
use tokio::time::timeout;

const SOON: Duration = Duration::from_millis(200);

async fn get(wire: &mut Wire) -> Result<Answer, BoxError> {
    wire.command(&["GET", "key"]).await
}

#[tokio::test]
#[ignore = "needs Docker and an image redis:7.0; .ci/run runs it"]
async fn a_container_is_a_server() -> Result<(), BoxError> {
    let shared = Shared::in_container().await?;
    let mut wire = Wire::to(shared.url()).await?;
    let pong = wire.command(&["PING"]).await?;
    assert_eq!(pong.text().as_deref(), Some("PONG"));
    Ok(())
}

#[tokio::test]
async fn a_server_without_a_file_forgets_when_it_is_killed() -> Result<(), BoxError> {
    for (args, kept) in [(&[][..], false), (DURABLE, true)] {
        let mut server = RedisServer::start(args).await?;
        let mut wire = server.wire().await?;
        wire.command(&["SET", "key", "7"]).await?;
        server.kill().await?;
        assert!(get(&mut wire).await.is_err());
        server.restart().await?;
        let found = get(&mut server.wire().await?).await?;
        assert_eq!(found.number(), kept.then_some(7), "{args:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_frozen_server_answers_once_it_is_thawed() -> Result<(), BoxError> {
    let server = RedisServer::start(&[]).await?;
    let mut wire = server.wire().await?;
    server.freeze().await?;
    let mut asking = Box::pin(wire.command(&["PING"]));
    assert!(timeout(SOON, &mut asking).await.is_err());
    server.thaw().await?;
    assert_eq!(asking.await?.text().as_deref(), Some("PONG"));
    Ok(())
}

#[tokio::test]
async fn a_proxy_spoils_what_it_is_told_to() -> Result<(), BoxError> {
    let server = RedisServer::start(&[]).await?;
    let proxy = Proxy::before(server.port()).await?;
    let mut direct = server.wire().await?;
    let mut through = Wire::to(&proxy.url()).await?;
    through.command(&["SET", "key", "1"]).await?;

    proxy.set(Fault::SwallowReplies);
    let unheard = timeout(SOON, through.command(&["INCR", "key"])).await;
    assert!(unheard.is_err());
    assert_eq!(get(&mut direct).await?.number(), Some(2), "it happened");

    let mut through = Wire::to(&proxy.url()).await?;
    proxy.set(Fault::CutAtReply);
    assert!(through.command(&["INCR", "key"]).await.is_err());
    assert_eq!(get(&mut direct).await?.number(), Some(3), "it happened");

    proxy.set(Fault::HalfOpen);
    let mut through = Wire::to(&proxy.url()).await?;
    let unheard = timeout(SOON, through.command(&["INCR", "key"])).await;
    assert!(unheard.is_err());
    assert_eq!(
        get(&mut direct).await?.number(),
        Some(3),
        "it did not happen"
    );

    proxy.set(Fault::None);
    proxy.cut();
    assert!(get(&mut through).await.is_err());
    let mut through = Wire::to(&proxy.url()).await?;
    assert_eq!(get(&mut through).await?.number(), Some(3));
    Ok(())
}
