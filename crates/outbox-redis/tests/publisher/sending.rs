use std::sync::Arc;
use std::time::Duration;

use outbox_core::error::error_text;
use outbox_core::ports::Publisher;
use outbox_core::{OutboxError, PublishError};
use outbox_redis::{EntryIds, RedisPublisherConfig};
use outbox_redis_harness::{Fault, Proxy, RedisServer};

use crate::scene::{
    BOTH, Scene, Tested, answers, append, assert_whole, message, messages, outbox, relay,
};

#[tokio::test]
async fn a_batch_is_in_the_stream_in_order_and_once_however_often_it_is_sent() -> Tested {
    for ids in BOTH {
        let scene = Scene::shared(ids).await?;
        let publisher = scene.publisher().await?;
        let batch = messages(1..=2_345);
        for _ in 0..3 {
            let told = answers(&publisher, &batch).await;
            assert!(told.iter().all(|answer| *answer == "ok"));
        }
        // Another process knows nothing of it, and neither does one that sends a part and more.
        let other = scene.publisher().await?;
        answers(&other, &messages(2_300..=2_400)).await;
        let entries = scene.entries().await?;
        let expected = messages(1..=2_400);
        let found: Vec<_> = entries.iter().map(|(_, message)| message.clone()).collect();
        assert_eq!(found, expected, "{ids:?}");
    }
    Ok(())
}

#[tokio::test]
async fn batches_that_are_sent_at_once_do_not_come_between_each_other() -> Tested {
    for ids in BOTH {
        let scene = Scene::shared(ids).await?;
        let publisher = scene.publisher().await?;
        let parts = [1..=1_700, 1_701..=1_800, 1_801..=4_000].map(messages);
        let sent = tokio::join!(
            answers(&publisher, &parts[0]),
            answers(&publisher, &parts[1]),
            answers(&publisher, &parts[2]),
        );
        assert!([sent.0, sent.1, sent.2].concat().iter().all(|a| *a == "ok"));
        assert_whole(&scene, 4_000).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_batch_that_comes_behind_a_later_one_is_not_taken_as_published() -> Tested {
    for ids in BOTH {
        let scene = Scene::shared(ids).await?;
        let (one, other) = (scene.publisher().await?, scene.publisher().await?);
        assert_eq!(answers(&one, &messages(11..=20)).await, ["ok"; 10]);
        assert_eq!(answers(&other, &messages(1..=10)).await, ["ok"; 10]);
        assert_eq!(answers(&other, &messages(1..=20)).await, ["ok"; 20]);
        let expected: Vec<_> = (11..=20).chain(1..=10).collect();
        assert_eq!(scene.sequences().await?, expected, "{ids:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_message_twice_in_a_batch_is_added_once() -> Tested {
    for ids in BOTH {
        let scene = Scene::shared(ids).await?;
        let publisher = scene.publisher().await?;
        assert_eq!(answers(&publisher, &messages([1, 2])).await, ["ok"; 2]);
        let told = answers(&publisher, &messages([2, 3, 3, 4])).await;
        assert_eq!(told, ["ok"; 4]);
        assert_eq!(scene.sequences().await?, [1, 2, 3, 4], "{ids:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_stale_relay_is_refused_and_adds_nothing() -> Tested {
    for ids in BOTH {
        let scene = Scene::shared(ids).await?;
        let (stale, heir) = (scene.publisher().await?, scene.publisher().await?);
        assert_eq!(answers(&stale, &[message(1, 4)]).await, ["ok"]);
        assert_eq!(answers(&heir, &[message(2, 5)]).await, ["ok"]);
        let told = stale.publish(&[message(3, 4), message(4, 4)]).await;
        for answer in told {
            assert!(matches!(answer, Err(PublishError::Fenced { seen: 5 })));
        }
        assert_eq!(scene.sequences().await?, [1, 2], "{ids:?}");
    }
    Ok(())
}

#[tokio::test]
async fn epochs_of_two_origins_are_not_compared() -> Tested {
    let mut scene = Scene::shared(EntryIds::Server).await?;
    assert_eq!(
        answers(&scene.publisher().await?, &[message(1, 9)]).await,
        ["ok"]
    );
    scene.config.origin = "other".to_owned();
    assert_eq!(
        answers(&scene.publisher().await?, &[message(2, 1)]).await,
        ["ok"]
    );
    Ok(())
}

#[tokio::test]
async fn a_full_stream_takes_the_beginning_and_names_when_to_ask_again() -> Tested {
    for ids in BOTH {
        let mut scene = Scene::shared(ids).await?;
        scene.config.high_water = 5;
        let publisher = scene.publisher().await?;
        assert_eq!(answers(&publisher, &messages([1, 2])).await, ["ok"; 2]);
        // What is there already needs no room.
        let told = publisher.publish(&messages(1..=8)).await;
        let (there, full) = told.split_at(5);
        assert!(there.iter().all(Result::is_ok), "{ids:?}");
        for answer in full {
            let Err(error @ PublishError::Unavailable { retry_after, .. }) = answer else {
                panic!("{answer:?}");
            };
            assert_eq!(*retry_after, Some(outbox_core::error::FULL_RETRY));
            assert!(
                error_text(error, 200).contains("stream s is full"),
                "{error}"
            );
        }
        assert_eq!(scene.sequences().await?, [1, 2, 3, 4, 5], "{ids:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_is_added_once() -> Tested {
    for ids in BOTH {
        let server = RedisServer::start(&[]).await?;
        let proxy = Proxy::before(server.port()).await?;
        let scene = Scene::on(&server, ids);
        let publisher = scene.publisher_at(proxy.url()).await?;
        assert_eq!(answers(&publisher, &messages([1])).await, ["ok"]);
        for fault in [Fault::CutAtReply, Fault::SwallowReplies] {
            proxy.set(fault);
            let told = answers(&publisher, &messages([2, 3])).await;
            assert_eq!(told, ["unavailable"; 2], "{ids:?} {fault:?}");
            proxy.set(Fault::None);
            proxy.cut();
        }
        let mut told = answers(&publisher, &messages([2, 3])).await;
        while told != ["ok"; 2] {
            assert_eq!(told, ["unavailable"; 2]);
            tokio::time::sleep(Duration::from_millis(20)).await;
            told = answers(&publisher, &messages([2, 3])).await;
        }
        assert_eq!(scene.sequences().await?, [1, 2, 3], "{ids:?}");
    }
    Ok(())
}

#[tokio::test]
async fn entries_are_called_by_their_places_and_one_that_comes_late_is_not_lost() -> Tested {
    let scene = Scene::shared(EntryIds::Sequence).await?;
    let publisher = scene.publisher().await?;
    answers(&publisher, &messages([1, 2, 5, 9])).await;
    // 3 waited for its time; 5 is sent again.
    assert_eq!(answers(&publisher, &messages([3, 5, 10])).await, ["ok"; 3]);
    let entries = scene.entries().await?;
    let found: Vec<_> = entries
        .iter()
        .map(|(id, m)| (id.as_str(), m.sequence.0))
        .collect();
    let expected = [
        ("1-0", 1),
        ("2-0", 2),
        ("5-0", 5),
        ("9-0", 9),
        ("9-1", 3),
        ("10-0", 10),
    ];
    assert_eq!(found, expected);
    Ok(())
}

#[tokio::test]
async fn places_far_apart_are_remembered_too() -> Tested {
    let scene = Scene::shared(EntryIds::Sequence).await?;
    let publisher = scene.publisher().await?;
    let places = [1, 7, 8, 9, 65_535, 65_536, 65_537, 1 << 40];
    for _ in 0..2 {
        assert_eq!(answers(&publisher, &messages(places)).await, ["ok"; 8]);
    }
    assert_eq!(scene.sequences().await?, places);
    Ok(())
}

#[tokio::test]
async fn a_place_that_is_given_to_a_second_message_is_told_and_not_taken_as_published() -> Tested {
    let scene = Scene::shared(EntryIds::Sequence).await?;
    let publisher = scene.publisher().await?;
    answers(&publisher, &messages(1..=9)).await;
    let mut other = message(3, 1);
    other.created_at = message(10, 1).created_at;
    let told = publisher.publish(&[other]).await;
    let Err(error @ PublishError::Unavailable { .. }) = &told[0] else {
        panic!("{told:?}");
    };
    assert!(
        error.to_string().contains("restored from a backup"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn a_stream_that_somebody_else_writes_to_takes_no_places() -> Tested {
    let scene = Scene::shared(EntryIds::Sequence).await?;
    let publisher = scene.publisher().await?;
    let (mut wire, key) = (scene.wire().await?, scene.key("stream"));
    wire.command(&["XADD", &key, "77-0", "m", "x"]).await?;
    let told = publisher.publish(&messages([1])).await;
    let text = told[0].as_ref().unwrap_err().to_string();
    assert!(text.contains("77-0 of somebody else"), "{text}");
    Ok(())
}

#[tokio::test]
async fn a_key_of_another_type_is_told_and_costs_no_attempt() -> Tested {
    let scene = Scene::shared(EntryIds::Server).await?;
    let publisher = scene.publisher().await?;
    let (mut wire, key) = (scene.wire().await?, scene.key("stream"));
    wire.command(&["SET", &key, "x"]).await?;
    let told = publisher.publish(&messages([1])).await;
    let Err(error @ PublishError::Unavailable { .. }) = &told[0] else {
        panic!("{told:?}");
    };
    assert!(error.to_string().contains("key of another type"), "{error}");
    Ok(())
}

#[tokio::test]
async fn what_a_server_does_not_permit_or_has_no_room_for_costs_no_attempt() -> Tested {
    for ids in BOTH {
        let server = RedisServer::start(&[]).await?;
        let scene = Scene::on(&server, ids);
        let publisher = scene.publisher().await?;
        assert_eq!(answers(&publisher, &messages([1])).await, ["ok"]);
        let mut wire = server.wire().await?;
        let blows: [([&[&str]; 2], &str); 2] = [
            (
                [
                    &["CONFIG", "SET", "maxmemory", "1"],
                    &["CONFIG", "SET", "maxmemory", "0"],
                ],
                "the memory of",
            ),
            (
                [
                    &["ACL", "SETUSER", "default", "-xadd"],
                    &["ACL", "SETUSER", "default", "+xadd"],
                ],
                "does not permit",
            ),
        ];
        for ([blow, relief], part) in blows {
            wire.command(blow).await?;
            let told = publisher.publish(&messages([2])).await;
            let Err(error @ PublishError::Unavailable { .. }) = &told[0] else {
                panic!("{told:?}");
            };
            assert!(error.to_string().contains(part), "{error}");
            wire.command(relief).await?;
        }
        assert_eq!(answers(&publisher, &messages([2])).await, ["ok"]);
        assert_eq!(scene.sequences().await?, [1, 2], "{ids:?}");
        assert_eq!(publisher.losses(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_refused_before_its_place_is_noted_is_published_once_it_is_permitted() -> Tested {
    for command in ["setbit", "setrange", "pexpire", "hset"] {
        let server = RedisServer::start(&[]).await?;
        let scene = Scene::on(&server, EntryIds::Sequence);
        let publisher = scene.publisher().await?;
        assert_eq!(answers(&publisher, &messages([1])).await, ["ok"]);
        let mut wire = server.wire().await?;
        for (part, told) in [("-", ["unavailable"; 39]), ("+", ["ok"; 39])] {
            let rule = format!("{part}{command}");
            wire.command(&["ACL", "SETUSER", "default", &rule]).await?;
            let answers = answers(&publisher, &messages(2..=40)).await;
            assert_eq!(answers, told, "{rule}");
        }
        assert!(scene.sequences().await?.into_iter().eq(1..=40), "{command}");
        assert_eq!(publisher.losses(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn an_outbox_is_relayed_in_commit_order() -> Tested {
    for ids in BOTH {
        let scene = Scene::shared(ids).await?;
        let (outbox, publisher) = (outbox(), scene.publisher().await?.into());
        append(&outbox, 3_000).await?;
        relay(&outbox, &publisher).await?;
        assert_whole(&scene, 3_000).await?;
        assert_eq!(publisher.losses(), 0);
    }
    Ok(())
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_refused() -> Tested {
    let mut scene = Scene::shared(EntryIds::Server).await?;
    scene.config = RedisPublisherConfig::named("{}");
    let error = scene.publisher().await.err().ok_or("it was made")?;
    let error = error.downcast::<OutboxError>()?;
    assert!(matches!(*error, OutboxError::Config(_)), "{error}");
    Ok(())
}

#[tokio::test]
async fn connections_that_break_at_any_moment_lose_nothing_and_double_nothing() -> Tested {
    for ids in BOTH {
        let server = RedisServer::start(&[]).await?;
        let proxy = Proxy::before(server.port()).await?;
        let scene = Scene::on(&server, ids);
        let outbox = outbox();
        let publisher = scene.publisher_at(proxy.url()).await?;
        let publisher = Arc::new(publisher.replaying(outbox.clone()));
        append(&outbox, 20_000).await?;
        let trouble = async {
            for round in 0..25 {
                let fault = [Fault::CutAtReply, Fault::SwallowReplies][round % 2];
                proxy.set(fault);
                tokio::time::sleep(Duration::from_millis(5)).await;
                proxy.set(Fault::None);
                proxy.cut();
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        };
        let (relayed, ()) = tokio::join!(relay(&outbox, &publisher), trouble);
        relayed?;
        assert_whole(&scene, 20_000).await?;
        assert_eq!(publisher.losses(), 0);
    }
    Ok(())
}
