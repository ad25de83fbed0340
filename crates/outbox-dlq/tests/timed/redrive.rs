use std::time::Duration;

use outbox_core::ports::Outbox;
use outbox_core::signal::Shutdown;
use outbox_dlq::{Filter, RedriveConfig, RedriveSummary};

use crate::fixture::{SECOND, World};

/// Redrives everything beside `story`, which ends it.
async fn beside(world: &World, config: RedriveConfig, story: impl AsyncFnOnce()) -> RedriveSummary {
    let (operator, shutdown) = (world.operator(), Shutdown::new());
    let (all, told) = (Filter::default(), async {
        story().await;
        shutdown.trigger();
    });
    let (summary, ()) = tokio::join!(operator.redrive(&all, &config, &shutdown), told);
    summary.unwrap()
}

/// How many messages are in the outbox.
async fn back(world: &World) -> u64 {
    world
        .outbox
        .stats(world.clock.now())
        .await
        .unwrap()
        .unsent()
}

fn at_rate(rate: u32) -> RedriveConfig {
    RedriveConfig {
        rate: Some(rate),
        ..RedriveConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_from_the_first_message_to_the_last() {
    for rate in [3, 20, 50] {
        let world = World::new();
        world.buried(100).await;
        let end = 100.0 / f64::from(rate) + 1.0;
        let summary = beside(&world, at_rate(rate), async || {
            let step = f64::from((rate / 10).max(1));
            for tenth in 0.. {
                let seconds = f64::from(tenth) / 10.0 + 0.05;
                if seconds > end {
                    break;
                }
                world.until(seconds).await;
                let (sent, due) = (back(&world).await as f64, f64::from(rate) * seconds);
                let most = due + step;
                let least = (due - step).min(100.0);
                assert!(sent >= least && sent <= most, "{sent} after {seconds} s");
            }
        })
        .await;
        assert_eq!((summary.redriven, summary.stopped), (100, false));
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_rate_nothing_waits() {
    let world = World::new();
    world.buried(1_000).await;
    let summary = beside(&world, RedriveConfig::default(), async || {}).await;
    assert_eq!((summary.redriven, back(&world).await), (1_000, 1_000));
    assert_eq!(world.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_redrive_between_two_steps() {
    let world = World::new();
    world.buried(100).await;
    let summary = beside(&world, at_rate(10), async || world.until(3.05).await).await;
    assert_eq!((summary.redriven, summary.stopped), (31, true));
    assert_eq!((back(&world).await, world.resting().await), (31, 69));
    assert!(world.elapsed() < 4 * SECOND, "{:?}", world.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_does_not_wait() {
    let world = World::new();
    world.buried(100).await;
    let config = RedriveConfig {
        dry_run: true,
        ..at_rate(1)
    };
    let summary = beside(&world, config, async || world.until(1.0).await).await;
    assert_eq!((summary.redriven, summary.stopped), (100, false));
    assert_eq!((back(&world).await, world.resting().await), (0, 100));
}

#[tokio::test(start_paused = true)]
async fn a_canary_with_a_rate_ends_after_its_last_message() {
    let world = World::new();
    world.buried(100).await;
    let config = RedriveConfig {
        most: Some(25),
        ..at_rate(100)
    };
    let summary = beside(&world, config, async || world.until(10.0).await).await;
    assert_eq!((summary.redriven, summary.stopped), (25, false));
    assert_eq!(world.resting().await, 75);
}
