//! A worker, a processor and an operator on one queue.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use outbox_core::HandlerError;
use outbox_core::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use outbox_core::delivery::Delivery;
use outbox_core::id::MessageId;
use outbox_core::policy::{Backoff, RetryPolicy};
use outbox_core::signal::Shutdown;
use outbox_dlq::{DlqHeap, DlqProcessor, DlqProcessorConfig, Filter, Operator, RedriveConfig};
use outbox_redis_harness::RedisServer;
use tokio::time::{Instant, sleep};

use crate::scene::{Scene, Tested, messages, now};

/// A handler that fails for each tenth message until it is mended, and notes what it handled.
#[derive(Default)]
struct Handler {
    mended: AtomicBool,
    handled: Mutex<Vec<MessageId>>,
}

impl Handler {
    fn handle(&self, delivery: &Delivery) -> Result<(), HandlerError> {
        let fails = delivery.message.payload.ends_with(b"9");
        if fails && !self.mended.load(Ordering::Relaxed) {
            return Err(HandlerError::retry(format!(
                "no row for {}",
                delivery.message.id
            )));
        }
        self.handled().push(delivery.message.id);
        Ok(())
    }

    fn handled(&self) -> MutexGuard<'_, Vec<MessageId>> {
        self.handled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn often() -> ConsumerConfig {
    ConsumerConfig {
        retry: RetryPolicy {
            max_attempts: 1_000,
            backoff: Backoff {
                base: Duration::from_millis(20),
                cap: Duration::from_millis(50),
            },
        },
        breaker: None,
        ..ConsumerConfig::default()
    }
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done().await {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until 20 rest, tries two of them, mends the cause, and sends all back.
async fn operate(scene: &Scene, handler: &Handler, shutdown: &Shutdown) -> Tested {
    let rest = async || scene.whereabouts().await.is_ok_and(|told| told == (20, 0));
    until("20 rest", rest).await;
    assert!(
        scene
            .letters()
            .await?
            .iter()
            .all(|letter| letter.attempts >= 3)
    );
    assert_eq!(handler.handled().len(), 180);
    let operator = Operator::new(Arc::new(scene.quarantine.clone()), "ada");
    let (all, canary) = (
        Filter::default(),
        RedriveConfig {
            most: Some(2),
            ..RedriveConfig::default()
        },
    );
    assert_eq!(operator.redrive(&all, &canary, shutdown).await?.redriven, 2);
    let came_back = async || {
        let letters = scene.letters().await.unwrap_or_default();
        let again = letters.iter().filter(|letter| letter.redrives == 1).count();
        (letters.len(), again) == (20, 2)
    };
    until("the canary is back", came_back).await;
    handler.mended.store(true, Ordering::Relaxed);
    let sent = operator
        .redrive(&all, &RedriveConfig::default(), shutdown)
        .await?;
    assert_eq!((sent.redriven, sent.refused), (20, 0));
    until("all are handled", async || handler.handled().len() == 200).await;
    until("all are settled", async || {
        scene.whereabouts().await.is_ok_and(|told| told == (0, 0))
    })
    .await;
    shutdown.trigger();
    Ok(())
}

#[tokio::test]
async fn what_fails_too_often_rests_until_its_cause_is_mended() -> Tested {
    let server = RedisServer::start(&[]).await?;
    let scene = Scene::at(&server.url()).await?;
    scene.enqueue(&messages(0..200)).await?;
    let config = DlqProcessorConfig {
        threshold: 3,
        in_flight_pause: Duration::from_millis(50),
        ..DlqProcessorConfig::default()
    };
    let quarantine = Arc::new(scene.quarantine.clone());
    let processor = DlqProcessor::new(Arc::new(scene.heap.clone()), quarantine, config)?;
    let handler = Arc::new(Handler::default());
    let noting = Arc::clone(&handler);
    let handle = move |delivery: Delivery| {
        let handler = Arc::clone(&noting);
        async move { handler.handle(&delivery) }
    };
    let consumer = Consumer::new(handle, often());
    let worker = Worker::new(
        Arc::new(scene.queue.clone()),
        consumer,
        WorkerConfig::default(),
    )?;
    let worker = worker.hook(Arc::new(processor.recorder()));
    let shutdown = Shutdown::new();
    let operated = operate(&scene, &handler, &shutdown);
    let (worked, moved, operated) =
        tokio::join!(worker.run(&shutdown), processor.run(&shutdown), operated);
    operated?;
    assert_eq!(worked?.tally.done, 200);
    assert_eq!(moved?.quarantined, 22);
    let mut handled = handler.handled().clone();
    handled.sort();
    handled.dedup();
    assert_eq!(handled.len(), 200, "each once");
    assert_eq!(scene.heap.stats(now()).await?.entries, 0);
    Ok(())
}
