//! What many letters cost the server.

use outbox_dlq::{CountRequest, DiscardRequest, Filter, Quarantine};
use outbox_redis_harness::{BoxError, RedisServer};

use crate::scene::{Scene, Tested, action, messages, now, redrive_all};

/// How many commands the server has run, those of scripts included.
async fn commands(server: &RedisServer) -> Result<u64, BoxError> {
    let stats = server
        .wire()
        .await?
        .command(&["INFO", "commandstats"])
        .await?;
    let stats = stats.text().ok_or("no statistics")?;
    let calls = stats.split("calls=").skip(1).filter_map(|rest| {
        let calls = rest.split(',').next()?;
        calls.parse::<u64>().ok()
    });
    Ok(calls.sum())
}

/// Counts `number` letters, discards the last half by its cause, and sends the others back, in steps;
/// how many commands that took.
async fn cost_of(number: u64) -> Result<u64, BoxError> {
    let server = RedisServer::start(&[]).await?;
    let scene = Scene::at(&server.url()).await?;
    for (half, error) in [(0, "busy"), (1, "no such row")] {
        scene
            .enqueue(&messages(half * number / 2..(half + 1) * number / 2))
            .await?;
        scene.give_up(error).await?;
    }
    let before = commands(&server).await?;
    let request = CountRequest {
        filter: Filter::default(),
        max: 10,
    };
    let counts = scene.quarantine.count(&request).await?;
    assert_eq!((counts.total, counts.groups.len()), (number, 2));
    let hopeless = counts
        .groups
        .iter()
        .find(|group| group.error == "no such row");
    let mut discard = DiscardRequest {
        filter: Filter::alike(hopeless.ok_or("a group")?.fingerprint),
        max: 25,
        action: action(1),
        now: now(),
    };
    let mut discarded = 0;
    loop {
        let report = scene.quarantine.discard(&discard).await?;
        discarded += report.discarded;
        if !report.more {
            break;
        }
    }
    let mut redrive = redrive_all(25);
    let mut redriven = 0;
    loop {
        let report = scene.quarantine.redrive(&redrive).await?;
        redriven += report.redriven.len() as u64;
        redrive.after = report.next;
        if redrive.after.is_none() {
            break;
        }
    }
    assert_eq!((discarded, redriven), (number / 2, number / 2));
    // Whatever comes later is another's.
    discard.action = action(2);
    assert_eq!(scene.quarantine.discard(&discard).await?.discarded, 0);
    Ok(commands(&server).await? - before)
}

#[tokio::test]
async fn what_letters_cost_grows_as_they_do() -> Tested {
    let (few, many) = (cost_of(400).await?, cost_of(3_200).await?);
    let ratio = many as f64 / few as f64;
    assert!(ratio < 8.5, "8 times the letters: {few} commands, {many}");
    Ok(())
}
