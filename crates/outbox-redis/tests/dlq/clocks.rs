//! An operator whose clock is not the server's.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use outbox_core::id::Entropy;
use outbox_core::signal::Shutdown;
use outbox_core::time::ManualClock;
use outbox_dlq::{Filter, Operator, RedriveConfig};
use outbox_redis_harness::{BoxError, RedisServer};
use tokio::time::sleep;

use crate::scene::{Scene, Tested, messages, now};

const HOUR: Duration = Duration::from_hours(1);

/// Gives up whatever is there, again and again.
async fn fail_for_ever(scene: &Scene) -> Result<Infallible, BoxError> {
    loop {
        scene.give_up("again").await?;
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn whatever_its_clock_tells_all_that_rest_go_back_once() -> Tested {
    for clock in [now() - HOUR, now() + HOUR] {
        let server = RedisServer::start(&[]).await?;
        let scene = Scene::at(&server.url()).await?;
        scene.bury(&messages(0..3)).await?;
        let operator = Operator::new(Arc::new(scene.quarantine.clone()), "ada")
            .driven_by(Arc::new(ManualClock::at(clock)), Entropy::seeded(1));
        let config = RedriveConfig {
            rate: Some(20),
            most: Some(10),
            max_redrives: None,
            ..RedriveConfig::default()
        };
        let (all, shutdown) = (Filter::default(), Shutdown::new());
        let summary = tokio::select! {
            summary = operator.redrive(&all, &config, &shutdown) => summary?,
            failed = fail_for_ever(&scene) => return failed.map(|never| match never {}),
        };
        assert_eq!((summary.redriven, summary.refused), (3, 0));
    }
    Ok(())
}
