//! What was read at once has one lease record: whatever becomes of its entries one by one.

use std::time::Duration;

use outbox_core::delivery::Delivery;
use outbox_core::id::WorkerId;
use outbox_core::ports::{DeliveryOutcome, Queue, RecoverRequest};
use outbox_core::status::AttemptRecord;
use outbox_core::time::{Clock, SystemClock};
use outbox_redis::RedisQueue;
use outbox_redis_harness::{Answer, BoxError, RedisServer, Wire};
use tokio::time::sleep;

use crate::scene::{
    BATCHES, HELD, LEASE, STREAM, Tested, enqueue_all, handle_all, messages, queue_at, request,
    settlements, worker,
};

/// That nothing was lost.
const NONE: [usize; 0] = [];

/// Longer than any of these tests take.
const LONG: Duration = Duration::from_secs(60);

/// Hands `count` messages to a worker in one batch.
async fn batch_of(
    queue: &RedisQueue,
    owner: WorkerId,
    count: u64,
    lease: Duration,
) -> Result<Vec<Delivery>, BoxError> {
    enqueue_all(queue, &messages(0..count)).await?;
    let mut asked = request(owner, Duration::ZERO);
    (asked.max, asked.lease) = (count as usize, lease);
    let held = queue.dequeue(&asked).await?.deliveries;
    assert_eq!(held.len() as u64, count);
    Ok(held)
}

async fn recovered(queue: &RedisQueue, owner: WorkerId) -> Result<Vec<Delivery>, BoxError> {
    let recover = RecoverRequest {
        owner,
        max: 1_000,
        lease: LONG,
        now: SystemClock.now(),
    };
    Ok(queue.recover_stuck(&recover).await?.deliveries)
}

async fn done(queue: &RedisQueue, held: &[Delivery]) -> Result<Vec<usize>, BoxError> {
    let done = settlements(held, &DeliveryOutcome::Done);
    Ok(queue.settle(&done, SystemClock.now()).await?.lost)
}

/// Nothing is noted of any entry any more.
async fn assert_nothing_is_noted(wire: &mut Wire) -> Tested {
    for key in [BATCHES, HELD, "outbox:{tasks}:workers:holds"] {
        let there = wire.command(&["EXISTS", key]).await?;
        assert_eq!(there, Answer::Number(0), "{key}");
    }
    assert_eq!(wire.command(&["XLEN", STREAM]).await?, Answer::Number(0));
    let counts = "outbox:{tasks}:workers:counts";
    let fields = wire.command(&["HLEN", counts]).await?;
    assert_eq!(fields, Answer::Number(1), "the last token");
    Ok(())
}

fn failed() -> DeliveryOutcome {
    let failure = AttemptRecord {
        at: SystemClock.now(),
        duration: Duration::from_millis(1),
        kind: "failed".to_owned(),
        error: "it did not work".to_owned(),
    };
    let due_at = SystemClock.now();
    DeliveryOutcome::Retry { due_at, failure }
}

#[tokio::test]
async fn what_is_settled_twice_is_lost_the_second_time_and_the_rest_is_not() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let held = batch_of(&queue, worker(), 100, LONG).await?;
    assert_eq!(done(&queue, &held[10..40]).await?, NONE);
    assert_eq!(done(&queue, &held[10..40]).await?.len(), 30);
    let lost: Vec<_> = (10..40).collect();
    assert_eq!(done(&queue, &held).await?, lost);
    assert_eq!(done(&queue, &held).await?.len(), 100);
    assert_nothing_is_noted(&mut server.wire().await?).await
}

#[tokio::test]
async fn of_a_batch_settled_in_every_way_each_entry_is_once() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let held = batch_of(&queue, worker(), 100, LONG).await?;
    let mut settling = settlements(&held, &DeliveryOutcome::Done);
    for place in [0, 1, 40, 99] {
        settling[place].outcome = failed();
    }
    // The same ones again, behind and in front of what they are settled with first.
    settling.extend(settlements(&held[40..42], &DeliveryOutcome::Done));
    settling.extend(settlements(&held[99..], &failed()));
    let report = queue.settle(&settling, SystemClock.now()).await?;
    assert_eq!((report.settled, report.lost), (100, vec![100, 101, 102]));
    let mut again = handle_all(&queue).await?;
    again.sort_unstable();
    let failed: Vec<_> = [0, 1, 40, 99].map(|at| held[at].message.id).into();
    assert_eq!(again, failed);
    assert_nothing_is_noted(&mut server.wire().await?).await
}

#[tokio::test]
async fn what_is_delayed_is_known_though_somebody_settles_it_once_more() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let mut wire = server.wire().await?;
    let held = batch_of(&queue, worker(), 20, LONG).await?;
    let now = SystemClock.now();
    let due_at = now + LONG;
    let later = settlements(&held[..1], &DeliveryOutcome::Delay { due_at });
    assert_eq!(queue.settle(&later, now).await?.settled, 1);
    let back = "outbox:{tasks}:workers:back";
    let known = wire.command(&["HLEN", back]).await?;
    assert_ne!(known, Answer::Number(0));
    assert_eq!(done(&queue, &held).await?, [0]);
    assert_eq!(wire.command(&["HLEN", back]).await?, known);
    Ok(())
}

#[tokio::test]
async fn a_server_that_lost_its_last_tokens_gives_none_of_them_again() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let mut wire = server.wire().await?;
    let owner = worker();
    let before = batch_of(&queue, owner, 20, LONG).await?;
    let noted = ["held", "holds", "counts", "batches"];
    for part in noted {
        wire.command(&["DEL", &format!("outbox:{{tasks}}:workers:{part}")])
            .await?;
    }
    enqueue_all(&queue, &messages(20..40)).await?;
    let after = queue.dequeue(&request(owner, Duration::ZERO)).await?;
    assert_eq!(after.deliveries.len(), 20);
    assert!(after.deliveries[0].receipt.token > before[0].receipt.token);
    assert_eq!(done(&queue, &before).await?.len(), 20, "nobody holds them");
    assert_eq!(done(&queue, &after.deliveries).await?, NONE);
    Ok(())
}

#[tokio::test]
async fn a_batch_whose_lease_is_over_is_its_holders_until_somebody_takes_it_over() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let held = batch_of(&queue, worker(), 100, LEASE).await?;
    assert_eq!(done(&queue, &held[..30]).await?, NONE);
    sleep(LEASE).await;
    assert_eq!(done(&queue, &held[30..50]).await?, NONE);
    let over = recovered(&queue, worker()).await?;
    assert_eq!(over.len(), 50);
    assert_eq!(done(&queue, &held[50..]).await?.len(), 50, "taken over");
    assert_eq!(done(&queue, &over).await?, NONE);
    assert_nothing_is_noted(&mut server.wire().await?).await
}

#[tokio::test]
async fn a_busy_batch_is_left_alone_where_one_entry_was_read_and_never_held() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let mut wire = server.wire().await?;
    let held = batch_of(&queue, worker(), 100, LONG).await?;
    let second = messages(100..101);
    enqueue_all(&queue, &second).await?;
    let dead = worker().to_string();
    let read = [
        "XREADGROUP",
        "GROUP",
        "workers",
        &dead,
        "COUNT",
        "1",
        "STREAMS",
        STREAM,
        ">",
    ];
    wire.command(&read).await?;
    // The batch has been idle for as long.
    sleep(Duration::from_millis(250)).await;
    let over = recovered(&queue, worker()).await?;
    let over: Vec<_> = over.iter().map(|delivery| delivery.message.id).collect();
    assert_eq!(over, [second[0].id]);
    assert_eq!(done(&queue, &held).await?, NONE);
    Ok(())
}

#[tokio::test]
async fn what_somebody_deleted_from_a_batch_is_settled_all_the_same() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let mut wire = server.wire().await?;
    let held = batch_of(&queue, worker(), 100, LONG).await?;
    let entry = held[7].receipt.entry;
    let entry = format!("{}-{}", entry.major, entry.minor);
    wire.command(&["XDEL", STREAM, &entry]).await?;
    assert_eq!(done(&queue, &held[7..]).await?, NONE);
    assert_eq!(done(&queue, &held).await?.len(), 93);
    assert_nothing_is_noted(&mut wire).await
}

#[tokio::test]
async fn a_batch_that_somebody_acknowledged_by_hand_is_forgotten_when_its_lease_is_over() -> Tested
{
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let mut wire = server.wire().await?;
    let held = batch_of(&queue, worker(), 20, LEASE).await?;
    for delivery in &held {
        let entry = delivery.receipt.entry;
        let entry = format!("{}-{}", entry.major, entry.minor);
        wire.command(&["XACK", STREAM, "workers", &entry]).await?;
        wire.command(&["XDEL", STREAM, &entry]).await?;
    }
    sleep(LEASE).await;
    assert!(recovered(&queue, worker()).await?.is_empty());
    assert_nothing_is_noted(&mut wire).await
}

#[tokio::test]
async fn a_batch_whose_list_of_entries_is_gone_stops_no_recovery() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let queue = queue_at(&server.url()).await?;
    let mut wire = server.wire().await?;
    let held = batch_of(&queue, worker(), 20, LEASE).await?;
    let list = format!("i{}", held[0].receipt.token);
    let gone = wire.command(&["HDEL", BATCHES, &list]).await?;
    assert_eq!(gone, Answer::Number(1));
    // What was read and never held is taken over once it has been idle for as long.
    sleep(LEASE.max(Duration::from_millis(250))).await;
    let taken = recovered(&queue, worker()).await?;
    assert_eq!(taken.len(), held.len());
    assert_eq!(done(&queue, &taken).await?, NONE);
    assert_nothing_is_noted(&mut wire).await
}
