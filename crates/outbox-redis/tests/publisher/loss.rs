use std::sync::Arc;

use outbox_core::ports::Outbox;
use outbox_core::time::Timestamp;
use outbox_redis::EntryIds;
use outbox_redis_harness::{DURABLE, RedisServer};

use crate::scene::{
    BOTH, Scene, Tested, answers, append, assert_whole, message, messages, outbox, relay,
};

/// Each message's place once, in order of the first time that it is there.
fn distinct(places: Vec<u64>) -> Vec<u64> {
    let mut seen = std::collections::HashSet::new();
    places
        .into_iter()
        .filter(|place| seen.insert(*place))
        .collect()
}

#[tokio::test]
async fn what_a_server_without_persistence_has_lost_is_published_again_in_order() -> Tested {
    for ids in BOTH {
        let mut server = RedisServer::start(&[]).await?;
        let scene = Scene::on(&server, ids);
        let outbox = outbox();
        let publisher = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
        append(&outbox, 1_200).await?;
        relay(&outbox, &publisher).await?;
        server.kill().await?;
        server.restart().await?;
        append(&outbox, 300).await?;
        relay(&outbox, &publisher).await?;
        assert_whole(&scene, 1_500).await?;
        assert_eq!(publisher.losses(), 1);
        let stats = outbox.stats(Timestamp::EPOCH).await?;
        assert_eq!((stats.unsent(), stats.published), (0, 1_500));
    }
    Ok(())
}

#[tokio::test]
async fn what_a_server_has_lost_since_its_snapshot_is_published_again_and_nothing_twice() -> Tested
{
    for ids in BOTH {
        let mut server = RedisServer::start(&[]).await?;
        let scene = Scene::on(&server, ids);
        let outbox = outbox();
        let publisher = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
        append(&outbox, 700).await?;
        relay(&outbox, &publisher).await?;
        server.wire().await?.command(&["SAVE"]).await?;
        append(&outbox, 500).await?;
        relay(&outbox, &publisher).await?;
        server.kill().await?;
        server.restart().await?;
        // The relay died with the server: another one, which knows nothing, finds it out.
        let heir = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
        append(&outbox, 100).await?;
        relay(&outbox, &heir).await?;
        assert_whole(&scene, 1_300).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_keeps_an_append_only_file_loses_nothing_and_is_sent_nothing_twice() -> Tested
{
    for ids in BOTH {
        let mut server = RedisServer::start(DURABLE).await?;
        let scene = Scene::on(&server, ids);
        let outbox = outbox();
        let publisher = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
        for _ in 0..3 {
            append(&outbox, 400).await?;
            relay(&outbox, &publisher).await?;
            server.kill().await?;
            server.restart().await?;
        }
        let heir = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
        append(&outbox, 100).await?;
        relay(&outbox, &heir).await?;
        assert_whole(&scene, 1_300).await?;
        assert_eq!((publisher.losses(), heir.losses()), (0, 0));
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_that_was_flushed_is_told_once_where_nothing_can_be_replayed() -> Tested {
    for ids in BOTH {
        let server = RedisServer::start(&[]).await?;
        let scene = Scene::on(&server, ids);
        let publisher = scene.publisher().await?;
        assert_eq!(answers(&publisher, &messages([1, 2])).await, ["ok"; 2]);
        server.wire().await?.command(&["FLUSHALL"]).await?;
        assert_eq!(answers(&publisher, &messages([3])).await, ["ok"]);
        assert_eq!(answers(&publisher, &messages([4])).await, ["ok"]);
        assert_eq!(scene.sequences().await?, [3, 4], "{ids:?}");
        assert_eq!(publisher.losses(), 1);
    }
    Ok(())
}

#[tokio::test]
async fn replayed_messages_keep_their_order_with_those_that_were_on_their_way() -> Tested {
    let mut server = RedisServer::start(&[]).await?;
    let scene = Scene::on(&server, EntryIds::Sequence);
    let outbox = outbox();
    let publisher = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
    for _ in 0..5 {
        append(&outbox, 50).await?;
        relay(&outbox, &publisher).await?;
        server.kill().await?;
        server.restart().await?;
    }
    append(&outbox, 50).await?;
    relay(&outbox, &publisher).await?;
    assert!(distinct(scene.sequences().await?).into_iter().eq(1..=300));
    assert_eq!(publisher.losses(), 5);
    Ok(())
}

#[tokio::test]
async fn a_relay_that_is_new_sends_an_emptied_server_what_the_outbox_keeps() -> Tested {
    for ids in BOTH {
        let server = RedisServer::start(&[]).await?;
        let scene = Scene::on(&server, ids);
        let outbox = outbox();
        let publisher = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
        append(&outbox, 1_200).await?;
        relay(&outbox, &publisher).await?;
        assert_eq!(
            publisher.losses(),
            0,
            "a server that is new has lost nothing"
        );
        server.wire().await?.command(&["FLUSHALL"]).await?;
        let heir = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
        append(&outbox, 300).await?;
        relay(&outbox, &heir).await?;
        assert_whole(&scene, 1_500).await?;
        // Who was there before finds nothing more to repair.
        append(&outbox, 1).await?;
        relay(&outbox, &publisher).await?;
        assert_whole(&scene, 1_501).await?;
        assert_eq!((heir.losses(), publisher.losses()), (1, 0), "{ids:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_that_was_deleted_alone_is_filled_again_although_ids_are_remembered() -> Tested {
    for ids in BOTH {
        let server = RedisServer::start(&[]).await?;
        let scene = Scene::on(&server, ids);
        let outbox = outbox();
        let publisher = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
        let mut wire = server.wire().await?;
        let mut all = 0;
        for round in 1..=3 {
            append(&outbox, 700).await?;
            all += 700;
            relay(&outbox, &publisher).await?;
            assert_whole(&scene, all).await?;
            assert_eq!(publisher.losses(), round - 1, "{ids:?}");
            wire.command(&["DEL", &scene.key("stream")]).await?;
        }
        let heir = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
        append(&outbox, 1).await?;
        relay(&outbox, &heir).await?;
        assert_whole(&scene, all + 1).await?;
        // What comes again is known again.
        answers(&heir, &messages([1, all])).await;
        assert_eq!(scene.sequences().await?.len() as u64, all + 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_stream_that_was_deleted_and_filled_by_its_queue_is_found_out() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let scene = Scene::on(&server, EntryIds::Server);
    let outbox = outbox();
    let publisher = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
    append(&outbox, 200).await?;
    relay(&outbox, &publisher).await?;
    let (mut wire, key) = (server.wire().await?, scene.key("stream"));
    wire.command(&["DEL", &key]).await?;
    // An entry that came back, and was settled: its id is a later one than that of any other.
    let id = wire.command(&["XADD", &key, "*", "m", "x"]).await?.text();
    wire.command(&["XDEL", &key, &id.unwrap_or_default()])
        .await?;
    append(&outbox, 1).await?;
    relay(&outbox, &publisher).await?;
    assert_whole(&scene, 201).await?;
    assert_eq!(publisher.losses(), 1);
    Ok(())
}

#[tokio::test]
async fn a_loss_after_a_restart_that_lost_nothing_is_found() -> Tested {
    let mut server = RedisServer::start(DURABLE).await?;
    // By places, so that nothing at all is replayed after the restart.
    let scene = Scene::on(&server, EntryIds::Sequence);
    let outbox = outbox();
    append(&outbox, 600).await?;
    let publisher = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
    relay(&outbox, &publisher).await?;
    server.kill().await?;
    server.restart().await?;
    let fresh = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
    assert_eq!(fresh.find_losses().await?, 0);
    scene.wire().await?.command(&["FLUSHALL"]).await?;
    append(&outbox, 1).await?;
    while outbox.stats(Timestamp::EPOCH).await?.unsent() > 0 {
        relay(&outbox, &fresh).await?;
    }
    assert_whole(&scene, 601).await
}

#[tokio::test]
async fn a_loss_is_found_while_there_is_nothing_to_send() -> Tested {
    for ids in BOTH {
        let mut server = RedisServer::start(&[]).await?;
        let scene = Scene::on(&server, ids);
        let outbox = outbox();
        let publisher = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
        assert_eq!(publisher.find_losses().await?, 0);
        append(&outbox, 600).await?;
        relay(&outbox, &publisher).await?;
        assert_eq!(publisher.find_losses().await?, 0);
        for fresh in [false, true] {
            server.kill().await?;
            server.restart().await?;
            let finder = match fresh {
                true => Arc::new(scene.publisher().await?.replaying(outbox.clone())),
                false => publisher.clone(),
            };
            while finder.find_losses().await.is_err() {}
            assert_eq!(finder.find_losses().await?, 0, "it is found once");
            relay(&outbox, &finder).await?;
            assert_eq!(finder.find_losses().await?, 0);
            assert_whole(&scene, 600).await?;
            assert_eq!(finder.losses(), 1, "{ids:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_was_claimed_before_a_replay_does_not_go_before_it() -> Tested {
    for ids in BOTH {
        let server = RedisServer::start(&[]).await?;
        let scene = Scene::on(&server, ids);
        let outbox = outbox();
        let publisher = Arc::new(scene.publisher().await?.replaying(outbox.clone()));
        let other = scene.publisher().await?.replaying(outbox.clone());
        append(&outbox, 5).await?;
        relay(&outbox, &publisher).await?;
        let sent = scene.entries().await?;
        let epoch = sent.iter().map(|(_, message)| message.epoch.0).max();
        server.wire().await?.command(&["FLUSHALL"]).await?;
        // A relay has this in its hands, and does not know yet that it has lost its lease.
        let old = [message(6, epoch.unwrap_or_default())];
        for finder in [&other, &*publisher] {
            let replayed = finder.find_losses().await?;
            assert_eq!(replayed, if std::ptr::eq(finder, &other) { 5 } else { 0 });
            assert_eq!(answers(finder, &old).await, ["unavailable"], "{ids:?}");
            assert_eq!(scene.sequences().await?, [] as [u64; 0]);
        }
        relay(&outbox, &publisher).await?;
        assert_whole(&scene, 5).await?;
    }
    Ok(())
}
