//! What rests, and what becomes of it in a queue.

use outbox_core::ports::Queue;
use outbox_core::status::HISTORY_LENGTH;
use outbox_dlq::{Origin, Quarantine, RedriveRequest, Refusal};
use outbox_redis_harness::{Answer, RedisServer};

use crate::scene::{Scene, Tested, action, messages, now, redrive_all};

const KEY: &str = "outbox:{tasks}:";

#[tokio::test]
async fn the_history_of_many_lives_is_bounded() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let scene = Scene::at(&server.url()).await?;
    scene.bury(&messages(0..1)).await?;
    for life in 1..=HISTORY_LENGTH + 4 {
        scene.quarantine.redrive(&redrive_all(1)).await?;
        scene.give_up(&format!("life {life}")).await?;
    }
    let letters = scene.letters().await?;
    let [letter] = &letters[..] else {
        return Err(format!("one letter: {letters:?}").into());
    };
    let last = format!("life {}", HISTORY_LENGTH + 4);
    assert_eq!((letter.attempts, letter.history.len()), (1, HISTORY_LENGTH));
    assert_eq!(letter.redrives as usize, HISTORY_LENGTH + 4);
    assert_eq!(
        (&letter.error, letter.history.last().map(|last| &last.error)),
        (&last, Some(&last))
    );
    assert_eq!(letter.problem, None);
    Ok(())
}

#[tokio::test]
async fn an_imported_letter_whose_message_waits_for_the_first_time_is_refused() -> Tested {
    let (server, other) = (
        RedisServer::start(&[]).await?,
        RedisServer::start(&[]).await?,
    );
    let (scene, other) = (
        Scene::at(&server.url()).await?,
        Scene::at(&other.url()).await?,
    );
    other.bury(&messages(0..3)).await?;
    let letters = other.letters().await?;
    scene.enqueue(&messages(1..2)).await?;
    scene.quarantine.import(&letters, &action(2), now()).await?;
    let report = scene.quarantine.redrive(&redrive_all(10)).await?;
    assert_eq!(report.redriven.len(), 2);
    let id = scene.letters().await?[0].id;
    let origin = Origin::Queue("tasks".to_owned());
    assert_eq!(report.refused, [Refusal::AlreadyThere { id, origin }]);
    assert_eq!(scene.handle_all().await?.len(), 3);
    // It is gone, though its id is remembered.
    assert_eq!(
        scene.quarantine.redrive(&redrive_all(10)).await?.redriven,
        [id]
    );
    Ok(())
}

#[tokio::test]
async fn letters_that_somebody_removed_hide_no_others() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let scene = Scene::at(&server.url()).await?;
    scene.bury(&messages(0..5)).await?;
    assert_eq!(scene.letters().await?.len(), 5);
    let mut wire = server.wire().await?;
    let quarantine = format!("{KEY}workers:quarantine");
    wire.command(&["XTRIM", &quarantine, "MAXLEN", "3"]).await?;
    // What nobody can read any more is counted no more, and takes no memory.
    assert_eq!(scene.whereabouts().await?, (3, 0));
    for part in ["letters", "order", "names"] {
        let key = format!("{KEY}workers:{part}");
        let command = if part == "names" { "HLEN" } else { "ZCARD" };
        assert_eq!(wire.command(&[command, &key]).await?, Answer::Number(3));
    }
    assert_eq!(scene.letters().await?.len(), 3);
    let mut request = redrive_all(2);
    let mut redriven = 0;
    loop {
        let report = scene.quarantine.redrive(&request).await?;
        redriven += report.redriven.len();
        request.after = report.next;
        if request.after.is_none() {
            break;
        }
    }
    assert_eq!((redriven, scene.handle_all().await?.len()), (3, 3));
    Ok(())
}

#[tokio::test]
async fn the_audit_keeps_the_last_ten_thousand_actions() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let scene = Scene::at(&server.url()).await?;
    let mut wire = server.wire().await?;
    let audit = format!("{KEY}workers:audit");
    let act = async |number| {
        let request = RedriveRequest {
            action: action(number),
            ..redrive_all(1)
        };
        scene.quarantine.redrive(&request).await
    };
    for number in 1..=3 {
        act(number).await?;
    }
    wire.command(&["HSET", &audit, "last", "10001"]).await?;
    for number in [4, 5, 5] {
        act(number).await?;
    }
    let records = scene.quarantine.audit(0, 10).await?;
    let numbers: Vec<_> = records
        .iter()
        .map(|record| (record.number, record.action.id.0))
        .collect();
    assert_eq!(numbers, [(10_002, 4), (10_003, 5)]);
    // Each record with its action, and the first and the last number.
    let fields = wire.command(&["HLEN", &audit]).await?;
    assert_eq!(fields, Answer::Number(6));
    Ok(())
}

#[tokio::test]
async fn nothing_is_left_of_letters_that_were_sent_back_and_handled() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let scene = Scene::at(&server.url()).await?;
    let mut wire = server.wire().await?;
    scene.bury(&messages(0..100)).await?;
    scene.fail(&messages(100..200)).await?;
    let entries: Vec<_> = messages(100..200).iter().map(crate::scene::entry).collect();
    scene.quarantine.quarantine(&entries, now()).await?;
    let back = format!("{KEY}workers:back");
    assert_eq!(wire.command(&["EXISTS", &back]).await?, Answer::Number(0));
    scene.quarantine.redrive(&redrive_all(200)).await?;
    let encoding = wire.command(&["OBJECT", "ENCODING", &back]).await?;
    assert_eq!(
        encoding.text().as_deref(),
        Some("hashtable"),
        "a list is searched from its start"
    );
    assert_eq!(scene.handle_all().await?.len(), 200);
    for part in ["back", "letters", "order", "names"] {
        let key = format!("{KEY}workers:{part}");
        assert_eq!(
            wire.command(&["EXISTS", &key]).await?,
            Answer::Number(0),
            "{key}"
        );
    }
    assert_eq!(scene.queue.stats(now()).await?.quarantined, 0);
    Ok(())
}
