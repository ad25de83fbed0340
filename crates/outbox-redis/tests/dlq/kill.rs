//! A server that is killed in the middle of moving and sending back.

use std::time::Duration;

use outbox_core::message::Message;
use outbox_dlq::{Move, Quarantine, RedriveReport};
use outbox_redis_harness::{BoxError, RedisServer};
use tokio::time::{Instant, sleep};

use crate::scene::{Scene, Tested, entry, ids, messages, now, redrive_all};

/// Moves what failed, and sends back what rests, until that is done or the server is gone.
async fn move_and_send_back(scene: &Scene, failing: &[Message]) {
    let entries: Vec<_> = failing.iter().map(entry).collect();
    let moving = async {
        for some in entries.chunks(50) {
            scene.quarantine.quarantine(some, now()).await?;
        }
        Ok::<_, BoxError>(())
    };
    let sending = async {
        let mut request = redrive_all(50);
        loop {
            request.after = scene.quarantine.redrive(&request).await?.next;
            if request.after.is_none() {
                return Ok::<_, BoxError>(());
            }
        }
    };
    let (moved, sent) = tokio::join!(moving, sending);
    // Whether the server was gone first is a matter of luck.
    drop((moved, sent));
}

/// Asks until the server answers again.
async fn whereabouts(scene: &Scene) -> Result<(u64, u64), BoxError> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match scene.whereabouts().await {
            Ok(told) => return Ok(told),
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_kill_while_letters_move_loses_and_doubles_nothing() -> Tested {
    let mut server =
        RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]).await?;
    let scene = Scene::at(&server.url()).await?;
    let (failing, buried) = (messages(0..600), messages(600..1_200));
    scene.fail(&failing).await?;
    scene.bury(&buried).await?;
    let mut cut_short = 0;
    for delay in [3, 6, 10, 15, 21, 28, 36, 45] {
        let killing = async {
            sleep(Duration::from_millis(delay)).await;
            server.kill().await
        };
        let (killed, ()) = tokio::join!(killing, move_and_send_back(&scene, &failing));
        killed?;
        server.restart().await?;
        let (resting, waiting) = whereabouts(&scene).await?;
        assert_eq!(resting + waiting, 1_200, "after {delay} ms");
        cut_short += usize::from(resting > 0);
        scene.give_up("again").await?;
    }
    assert!(cut_short > 0, "no kill came before the end");

    let entries: Vec<_> = failing.iter().map(entry).collect();
    let moves = scene.quarantine.quarantine(&entries, now()).await?;
    assert!(!moves.contains(&Move::InFlight));
    let mut redriven = 0;
    let mut request = redrive_all(200);
    loop {
        let RedriveReport {
            redriven: some,
            refused,
            next,
            full: _,
        } = scene.quarantine.redrive(&request).await?;
        assert_eq!(refused, []);
        redriven += some.len();
        request.after = next;
        if request.after.is_none() {
            break;
        }
    }
    let handled = scene.handle_all().await?;
    let all: Vec<_> = failing.into_iter().chain(buried).collect();
    assert_eq!((redriven, handled.len()), (1_200, 1_200));
    assert_eq!(
        handled
            .into_iter()
            .collect::<std::collections::BTreeSet<_>>(),
        ids(&all)
    );
    assert_eq!(scene.queue.losses(), 0);
    Ok(())
}
