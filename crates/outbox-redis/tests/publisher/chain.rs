//! Calls that are under way at once.

use outbox_redis::EntryIds;

use crate::scene::{BOTH, Scene, Tested, answers, assert_whole, message, messages};

#[tokio::test]
async fn nothing_is_taken_behind_a_call_that_was_refused() -> Tested {
    for ids in BOTH {
        let scene = Scene::shared(ids).await?;
        let publisher = scene.publisher().await?;
        assert_eq!(answers(&publisher, &[message(1, 5)]).await, ["ok"]);
        let calls = [(2..=600, 5), (601..=700, 4), (701..=800, 5)];
        let calls =
            calls.map(|(places, epoch)| places.map(|n| message(n, epoch)).collect::<Vec<_>>());
        let told = tokio::join!(
            answers(&publisher, &calls[0]),
            answers(&publisher, &calls[1]),
            answers(&publisher, &calls[2]),
        );
        assert_eq!(told.0, ["ok"; 599], "{ids:?}");
        assert_eq!(told.1, ["fenced"; 100], "{ids:?}");
        assert_eq!(told.2, ["unavailable"; 100], "{ids:?}");
        assert_whole(&scene, 600).await?;
        // Nothing is under way any more.
        let rest: Vec<_> = (601..=800).map(|n| message(n, 5)).collect();
        assert_eq!(answers(&publisher, &rest).await, ["ok"; 200], "{ids:?}");
        assert_whole(&scene, 800).await?;
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_taken_behind_a_call_that_did_not_fit() -> Tested {
    for ids in BOTH {
        let mut scene = Scene::shared(ids).await?;
        scene.config.high_water = 800;
        let publisher = scene.publisher().await?;
        let known = messages(1..=100);
        assert_eq!(answers(&publisher, &known).await, ["ok"; 100]);
        // What is there already needs no room, but comes behind what has none.
        let more = messages(101..=1_200);
        let (told, behind) = tokio::join!(answers(&publisher, &more), answers(&publisher, &known));
        assert!(told[..700].iter().all(|answer| *answer == "ok"), "{ids:?}");
        assert!(
            told[700..].iter().all(|answer| *answer == "unavailable"),
            "{ids:?}"
        );
        assert_eq!(behind, ["unavailable"; 100], "{ids:?}");
        assert_whole(&scene, 800).await?;
    }
    Ok(())
}

#[tokio::test]
async fn nothing_follows_a_call_that_was_dropped_half_way() -> Tested {
    let scene = Scene::shared(EntryIds::Sequence).await?;
    let publisher = scene.publisher().await?;
    let (first, second) = (messages(1..=3_000), messages(3_001..=3_100));
    // Two parts are on their way when the first call is dropped; the second began before that.
    let mut dropped = Box::pin(answers(&publisher, &first));
    let sent = futures_util::future::poll_immediate(&mut dropped).await;
    assert!(sent.is_none());
    let mut following = Box::pin(answers(&publisher, &second));
    assert!(
        futures_util::future::poll_immediate(&mut following)
            .await
            .is_none()
    );
    drop(dropped);
    assert_eq!(following.await, ["unavailable"; 100]);
    let all = messages(1..=3_100);
    assert!(
        answers(&publisher, &all)
            .await
            .iter()
            .all(|answer| *answer == "ok")
    );
    assert_whole(&scene, 3_100).await?;
    Ok(())
}
