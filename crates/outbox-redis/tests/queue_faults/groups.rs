//! Groups of a fanned-out queue that nobody reads any more.

use std::time::Duration;

use outbox_core::error::OutboxError;
use outbox_core::ports::{DeliveryOutcome, Health, HealthCheck, Queue};
use outbox_core::time::{Clock, SystemClock};
use outbox_redis::{GroupRemoval, RedisQueue, RedisQueueConfig};
use outbox_redis_harness::{Answer, BoxError, RedisServer, Wire};
use tokio::time::sleep;

use crate::scene::{
    LEASE, STREAM, Tested, enqueue_all, handle_all, messages, queue_with, request, settlements,
    worker,
};

const GROUPS: &str = "outbox:{tasks}:groups";
const BLUE_COUNTS: &str = "outbox:{tasks}:blue:counts";
const HOUR: Duration = Duration::from_hours(1);

fn group(name: &str) -> RedisQueueConfig {
    RedisQueueConfig {
        group: name.to_owned(),
        fan_out: true,
        group_silence: HOUR,
        ..RedisQueueConfig::default()
    }
}

async fn two(server: &RedisServer) -> Result<(RedisQueue, RedisQueue), BoxError> {
    let red = queue_with(&server.url(), group("red")).await?;
    let blue = queue_with(&server.url(), group("blue")).await?;
    for queue in [&red, &blue] {
        queue.dequeue(&request(worker(), Duration::ZERO)).await?;
    }
    Ok((red, blue))
}

/// Has the group look as if nobody had seen it for two hours.
async fn silence(wire: &mut Wire, name: &str) -> Tested {
    let since = SystemClock.now() - HOUR * 2;
    let since = since.as_micros().to_string();
    assert!(
        wire.command(&["HGET", GROUPS, name])
            .await?
            .number()
            .is_some()
    );
    wire.command(&["HSET", GROUPS, name, &since]).await?;
    Ok(())
}

fn texts(list: Answer) -> Vec<String> {
    list.list().iter().filter_map(Answer::text).collect()
}

#[tokio::test]
async fn a_group_that_nobody_reads_any_more_is_told_and_removed_by_nobody_else() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let (red, blue) = two(&server).await?;
    let mut wire = server.wire().await?;
    assert_eq!(red.check(SystemClock.now()).await, Health::Healthy);
    enqueue_all(&red, &messages(0..1_000)).await?;
    silence(&mut wire, "blue").await?;
    let told = red.check(SystemClock.now()).await;
    let Health::Degraded(text) = &told else {
        panic!("{told:?}");
    };
    assert!(text.contains("group blue was not seen for 7"), "{text}");
    let groups = red.groups().await?;
    let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["blue", "red"]);
    assert!(groups[0].silent_for >= HOUR * 2 && groups[1].silent_for < HOUR);
    assert_eq!((groups[0].pending, groups[0].unread), (0, Some(1_000)));
    assert_eq!(handle_all(&red).await?.len(), 1_000);
    assert_eq!(handle_all(&blue).await?.len(), 1_000, "it is as it was");
    Ok(())
}

#[tokio::test]
async fn a_removed_group_keeps_nothing_and_one_that_lives_is_not_removed() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let (red, blue) = two(&server).await?;
    enqueue_all(&red, &messages(0..100)).await?;
    // Blue holds some, has delayed some, and will never read the rest.
    let held = blue
        .dequeue(&request(worker(), Duration::ZERO))
        .await?
        .deliveries;
    let due_at = SystemClock.now() + HOUR;
    let later = settlements(&held[..50], &DeliveryOutcome::Delay { due_at });
    blue.settle(&later, SystemClock.now()).await?;
    handle_all(&red).await?;
    let mut wire = server.wire().await?;
    assert_eq!(wire.command(&["XLEN", STREAM]).await?, Answer::Number(100));
    assert_eq!(red.remove_group("blue", HOUR).await?, GroupRemoval::Seen);
    silence(&mut wire, "blue").await?;
    sleep(LEASE).await;
    assert_eq!(red.remove_group("blue", HOUR).await?, GroupRemoval::Removed);
    assert_eq!(wire.command(&["XLEN", STREAM]).await?, Answer::Number(0));
    // But the last token, so that none is ever given twice.
    let left = wire.command(&["KEYS", "*blue*"]).await?;
    assert_eq!(texts(left), [BLUE_COUNTS]);
    let counts = wire.command(&["HGETALL", BLUE_COUNTS]).await?;
    let last = held[0].receipt.token.to_string();
    assert_eq!(texts(counts), ["token", last.as_str()]);
    assert_eq!(red.groups().await?.len(), 1);
    assert_eq!(red.remove_group("blue", HOUR).await?, GroupRemoval::Absent);
    enqueue_all(&red, &messages(100..110)).await?;
    assert_eq!(handle_all(&red).await?.len(), 10);
    Ok(())
}

#[tokio::test]
async fn a_group_whose_workers_are_all_busy_is_not_removed_and_no_token_comes_twice() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let (red, blue) = two(&server).await?;
    enqueue_all(&red, &messages(0..3)).await?;
    let mut wire = server.wire().await?;
    // They have not asked for more since they took these.
    let held = blue
        .dequeue(&request(worker(), Duration::ZERO))
        .await?
        .deliveries;
    silence(&mut wire, "blue").await?;
    let busy = GroupRemoval::Busy { held: 3 };
    assert_eq!(red.remove_group("blue", HOUR).await?, busy);
    let done = settlements(&held[..2], &DeliveryOutcome::Done);
    let report = blue.settle(&done, SystemClock.now()).await?;
    assert_eq!(report.lost, [0; 0]);
    let busy = GroupRemoval::Busy { held: 1 };
    assert_eq!(red.remove_group("blue", HOUR).await?, busy);
    sleep(LEASE).await;
    assert_eq!(red.remove_group("blue", HOUR).await?, GroupRemoval::Removed);
    let blue = queue_with(&server.url(), group("blue")).await?;
    let again = blue
        .dequeue(&request(worker(), Duration::ZERO))
        .await?
        .deliveries;
    assert!(again[0].receipt.token > held[0].receipt.token);
    Ok(())
}

#[tokio::test]
async fn a_group_that_others_made_counts_from_when_it_was_met() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let (red, _blue) = two(&server).await?;
    let mut wire = server.wire().await?;
    wire.command(&["XGROUP", "CREATE", STREAM, "stray", "0"])
        .await?;
    wire.command(&["XGROUP", "DESTROY", STREAM, "blue"]).await?;
    let met = red.groups().await?;
    assert_eq!(met.len(), 2);
    assert!(met.iter().all(|group| group.silent_for < HOUR), "{met:?}");
    silence(&mut wire, "stray").await?;
    assert!(matches!(
        red.check(SystemClock.now()).await,
        Health::Degraded(_)
    ));
    let removed = red.remove_group("stray", HOUR).await?;
    assert_eq!(removed, GroupRemoval::Removed);
    assert_eq!(red.check(SystemClock.now()).await, Health::Healthy);
    let noted = wire.command(&["HKEYS", GROUPS]).await?.list();
    assert_eq!(noted.len(), 1, "{noted:?}");
    Ok(())
}

#[tokio::test]
async fn a_silence_that_nobody_could_break_in_time_is_refused() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let config = RedisQueueConfig {
        group_silence: Duration::from_secs(10),
        ..group("red")
    };
    let error = queue_with(&server.url(), config).await.err();
    let error = error.ok_or("it was opened")?.downcast::<OutboxError>()?;
    assert!(error.to_string().contains("group_silence"), "{error}");
    Ok(())
}
