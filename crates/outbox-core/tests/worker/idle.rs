//! A worker that has nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use outbox_core::consume::{Worker, WorkerConfig};
use outbox_core::id::WorkerId;
use outbox_core::ports::{DequeueRequest, Queue};
use outbox_core::signal::Shutdown;

use crate::again::Deaf;
use crate::fixture::{SECOND, text};
use crate::stage::{Recorder, Stage, plain};

/// How often a worker asks within ten minutes for what is stuck, while another holds a task for
/// `lease`.
async fn recoveries(lease: Option<Duration>) -> u32 {
    let stage = Stage::new(71);
    if let Some(lease) = lease {
        stage.enqueue(&[text(0)]).await;
        let request = DequeueRequest {
            owner: WorkerId::from_bytes([9; 16]),
            max: 1,
            lease,
            wait: Duration::ZERO,
            now: stage.world.clock.now(),
        };
        let held = stage.queue.dequeue(&request).await.unwrap();
        assert_eq!(held.deliveries.len(), 1);
    }
    let recoveries: Arc<AtomicU32> = Arc::default();
    let queue = Deaf {
        inner: stage.queue.clone(),
        to_settlements: Arc::default(),
        hears_after: None,
        mute: Arc::default(),
        recoveries: Arc::clone(&recoveries),
    };
    let worker = plain(&Recorder::healthy());
    let worker = Worker::new(Arc::new(queue), worker, WorkerConfig::default()).unwrap();
    let worker = worker.driven_by(stage.world.clock.clone(), stage.world.entropy.clone());
    let shutdown = Shutdown::new();
    let ends = async {
        tokio::time::sleep(600 * SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(worker.run(&shutdown), ends);
    report.unwrap();
    recoveries.load(SeqCst)
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_held_nobody_asks_for_what_is_stuck() {
    let recoveries = recoveries(None).await;
    assert!(recoveries <= 1, "{recoveries}");
}

#[tokio::test(start_paused = true)]
async fn where_somebody_holds_something_it_is_asked_for_at_each_safety_poll() {
    let recoveries = recoveries(Some(3_600 * SECOND)).await;
    assert!((19..=21).contains(&recoveries), "{recoveries}");
}
