//! Replies that are lost at every step, and servers whose memory is full.

use outbox_core::ports::Queue;
use outbox_dlq::{DiscardRequest, DlqHeap, DrainRequest, Filter, ImportReport, Move, Quarantine};
use outbox_redis_harness::{Fault, Proxy, RedisServer};
use tokio::time::sleep;

use crate::scene::{LEASE, Scene, Tested, action, entry, failure, ids, messages, now, redrive_all};

fn drain() -> DrainRequest {
    DrainRequest {
        threshold: 3,
        failing_since: None,
        max: 100,
        lease: LEASE,
        now: now(),
    }
}

/// Loses every reply behind the first `pieces`, until the end of `work`.
async fn losing<T>(proxy: &Proxy, pieces: usize, work: impl Future<Output = T>) -> T {
    proxy.set(Fault::SwallowRepliesAfter(pieces));
    let done = work.await;
    proxy.set(Fault::None);
    proxy.cut();
    done
}

#[tokio::test]
async fn a_drain_whose_reply_is_lost_comes_back() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let proxy = Proxy::before(server.port()).await?;
    let (scene, direct) = (
        Scene::at(&proxy.url()).await?,
        Scene::at(&server.url()).await?,
    );
    let batch = messages(0..10);
    for _ in 0..3 {
        let failures: Vec<_> = batch.iter().map(|message| failure(message.id)).collect();
        direct.heap.record_failures(&failures).await?;
    }
    // The server knows the script, so that the one reply is of the drain itself.
    let higher = DrainRequest {
        threshold: 4,
        ..drain()
    };
    assert_eq!(direct.heap.drain_exceeded(&higher).await?, []);
    proxy.set(Fault::SwallowReplies);
    assert!(scene.heap.drain_exceeded(&drain()).await.is_err());
    assert_eq!(direct.heap.stats(now()).await?.claimed, 10);
    assert_eq!(direct.heap.drain_exceeded(&drain()).await?, []);
    sleep(LEASE).await;
    let drained = direct.heap.drain_exceeded(&drain()).await?;
    assert_eq!(drained.len(), 10);
    assert!(drained.iter().all(|entry| entry.failures == 3));
    assert_eq!(direct.heap.confirm(&drained).await?, 10);
    assert_eq!(direct.heap.stats(now()).await?, Default::default());
    Ok(())
}

/// Runs a case with the replies lost behind the first, the second and so on, until none is lost.
macro_rules! at_every_reply {
    ($pieces:ident, $body:expr) => {
        for $pieces in 0..60 {
            let lost: bool = $body;
            if !lost {
                assert!($pieces > 0, "nothing was lost");
                return Ok(());
            }
        }
        panic!("it never ends")
    };
}

#[tokio::test]
async fn a_move_whose_reply_is_lost_moves_once() -> Tested {
    at_every_reply!(pieces, {
        let server = RedisServer::start(&[]).await?;
        let proxy = Proxy::before(server.port()).await?;
        let (scene, direct) = (
            Scene::at(&proxy.url()).await?,
            Scene::at(&server.url()).await?,
        );
        let batch = messages(0..450);
        direct.fail(&batch).await?;
        let entries: Vec<_> = batch.iter().map(entry).collect();
        let moving = scene.quarantine.quarantine(&entries, now());
        let lost = losing(&proxy, pieces, moving).await.is_err();
        let (resting, waiting) = direct.whereabouts().await?;
        assert_eq!(resting + waiting, 450);
        let moves = direct.quarantine.quarantine(&entries, now()).await?;
        let moved = moves.iter().filter(|told| **told == Move::Moved).count();
        assert_eq!(
            (moved as u64, moves.contains(&Move::InFlight)),
            (waiting, false)
        );
        let found = direct.letters().await?;
        let found: Vec<_> = found
            .iter()
            .filter_map(|letter| letter.message.clone())
            .collect();
        assert_eq!((found.len(), ids(&found)), (450, ids(&batch)));
        lost
    });
}

#[tokio::test]
async fn a_redrive_whose_reply_is_lost_sends_once() -> Tested {
    at_every_reply!(pieces, {
        let server = RedisServer::start(&[]).await?;
        let proxy = Proxy::before(server.port()).await?;
        let (scene, direct) = (
            Scene::at(&proxy.url()).await?,
            Scene::at(&server.url()).await?,
        );
        let batch = messages(0..50);
        direct.bury(&batch).await?;
        let request = redrive_all(100);
        let redriving = scene.quarantine.redrive(&request);
        let lost = losing(&proxy, pieces, redriving).await.is_err();
        let (resting, waiting) = direct.whereabouts().await?;
        assert_eq!((resting + waiting, resting % 50), (50, 0));
        let again = direct.quarantine.redrive(&request).await?;
        assert_eq!(
            (again.redriven.len() as u64, again.refused.len()),
            (resting, 0)
        );
        let audit = direct.quarantine.audit(0, 10).await?;
        assert_eq!((audit.len(), audit[0].letters), (1, 50));
        let expected: Vec<_> = batch.iter().map(|message| message.id).collect();
        assert_eq!(direct.handle_all().await?, expected);
        lost
    });
}

#[tokio::test]
async fn a_discard_whose_reply_is_lost_counts_what_it_deleted() -> Tested {
    at_every_reply!(pieces, {
        let server = RedisServer::start(&[]).await?;
        let proxy = Proxy::before(server.port()).await?;
        let (scene, direct) = (
            Scene::at(&proxy.url()).await?,
            Scene::at(&server.url()).await?,
        );
        direct.bury(&messages(0..50)).await?;
        let request = DiscardRequest {
            filter: Filter::default(),
            max: 100,
            action: action(1),
            now: now(),
        };
        let discarding = scene.quarantine.discard(&request);
        let lost = losing(&proxy, pieces, discarding).await.is_err();
        direct.quarantine.discard(&request).await?;
        assert_eq!(direct.whereabouts().await?, (0, 0));
        assert_eq!(direct.quarantine.audit(0, 10).await?[0].letters, 50);
        lost
    });
}

#[tokio::test]
async fn an_import_whose_reply_is_lost_adds_once() -> Tested {
    at_every_reply!(pieces, {
        let server = RedisServer::start(&[]).await?;
        let proxy = Proxy::before(server.port()).await?;
        let (scene, direct) = (
            Scene::at(&proxy.url()).await?,
            Scene::at(&server.url()).await?,
        );
        let other = RedisServer::start(&[]).await?;
        let other = Scene::at(&other.url()).await?;
        other.bury(&messages(0..50)).await?;
        let letters = other.letters().await?;
        let (action, at) = (action(1), now());
        let importing = scene.quarantine.import(&letters, &action, at);
        let lost = losing(&proxy, pieces, importing).await.is_err();
        let (resting, _) = direct.whereabouts().await?;
        let again = direct.quarantine.import(&letters, &action, at).await?;
        let expected = ImportReport {
            imported: 50 - resting,
            duplicates: resting,
        };
        assert_eq!(again, expected);
        assert_eq!(direct.letters().await?.len(), 50);
        lost
    });
}

#[tokio::test]
async fn a_full_server_still_quarantines_and_discards() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let scene = Scene::at(&server.url()).await?;
    scene.bury(&messages(0..20)).await?;
    scene.fail(&messages(20..40)).await?;
    let mut wire = server.wire().await?;
    wire.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await?;
    let counted = scene
        .heap
        .record_failure(&failure(messages(20..21)[0].id))
        .await;
    assert!(counted.is_err_and(|error| error.is_transient()));
    let entries: Vec<_> = messages(20..40).iter().map(entry).collect();
    let moves = scene.quarantine.quarantine(&entries, now()).await?;
    assert_eq!(moves, [Move::Moved; 20]);
    let redriven = scene.quarantine.redrive(&redrive_all(100)).await;
    assert!(
        redriven.is_err_and(|error| error.is_transient()),
        "it adds to the queue"
    );
    assert_eq!(scene.whereabouts().await?, (40, 0));
    let request = DiscardRequest {
        filter: Filter::one(scene.letters().await?[0].id),
        max: 100,
        action: action(2),
        now: now(),
    };
    assert_eq!(scene.quarantine.discard(&request).await?.discarded, 1);
    wire.command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    assert_eq!(
        scene
            .quarantine
            .redrive(&redrive_all(100))
            .await?
            .redriven
            .len(),
        39
    );
    assert_eq!(scene.queue.stats(now()).await?.depth(), 39);
    Ok(())
}
