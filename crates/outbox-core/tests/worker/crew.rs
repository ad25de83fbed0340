//! What becomes of a worker where a handler blocks its thread, waits or breaks.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::HandlerError;
use outbox_core::consume::{Consumer, ConsumerConfig, WorkerConfig};
use outbox_core::delivery::Delivery;
use outbox_core::policy::RetryPolicy;
use outbox_core::ports::{DeliveryHook, Handled, Handler};
use outbox_core::report::BatchReport;
use outbox_core::signal::Shutdown;

use crate::fixture::{SECOND, text};
use crate::stage::{Stage, text_of};

/// A handler that blocks its thread for each `nth` message, and is quick with others.
#[derive(Clone)]
struct Blocking {
    counts: Arc<Counts>,
    nth: usize,
}

#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
    begun: AtomicUsize,
}

#[async_trait]
impl Handler for Blocking {
    async fn handle(&self, delivery: &Delivery) -> Result<Handled, HandlerError> {
        let counts = &self.counts;
        counts.begun.fetch_add(1, SeqCst);
        let now = counts.now.fetch_add(1, SeqCst) + 1;
        counts.most.fetch_max(now, SeqCst);
        let number: usize = text_of(&delivery.message).parse().unwrap();
        if number % self.nth == self.nth - 1 {
            #[expect(clippy::disallowed_methods, reason = "that is what is tested")]
            std::thread::sleep(SECOND / 20);
        }
        counts.now.fetch_sub(1, SeqCst);
        Ok(Handled::Done)
    }
}

/// How many handlings had begun when it heard of the first batch.
struct Listener(Arc<Counts>, Mutex<Option<usize>>);

#[async_trait]
impl DeliveryHook for Listener {
    async fn after_batch(&self, _: &BatchReport) {
        let begun = self.0.begun.load(SeqCst);
        self.1.lock().unwrap().get_or_insert(begun);
    }
}

async fn blocked(deliveries: usize, nth: usize) -> (Arc<Counts>, Arc<Listener>) {
    let stage = Stage::new(71);
    let messages: Vec<_> = (0..deliveries).map(text).collect();
    stage.enqueue(&messages).await;
    let counts = Arc::new(Counts::default());
    let blocking = Blocking {
        counts: Arc::clone(&counts),
        nth,
    };
    let consumer = Consumer::new(blocking, ConsumerConfig::default());
    let listener = Arc::new(Listener(Arc::clone(&counts), Mutex::default()));
    let worker = stage.worker(consumer, WorkerConfig::default());
    let worker = worker.hook(listener.clone());
    let report = tokio::spawn(async move { worker.run_until_empty(&Shutdown::new()).await });
    assert_eq!(report.await.unwrap().unwrap().tally.done, deliveries as u64);
    (counts, listener)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn handlers_that_block_their_threads_do_so_on_all_there_are() {
    let (counts, _) = blocked(24, 1).await;
    assert_eq!(counts.most.load(SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_handled_is_settled_while_others_block_their_threads() {
    for nth in [1, 2] {
        let (_, listener) = blocked(32, nth).await;
        let begun = listener.1.lock().unwrap().unwrap();
        assert!(begun <= 8, "{begun} of 32 had begun before any was settled");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_a_handler_that_is_never_idle_ends() {
    let stage = Stage::new(75);
    stage.enqueue(&[text(0)]).await;
    let handler = |_: Delivery| async {
        loop {
            tokio::task::consume_budget().await;
        }
        #[expect(unreachable_code, reason = "the type of the answer")]
        Ok::<(), HandlerError>(())
    };
    let config = ConsumerConfig {
        handler_timeout: SECOND / 10,
        retry: once(),
        ..ConsumerConfig::default()
    };
    let drained = stage.drain(Consumer::new(handler, config));
    let report = tokio::time::timeout(30 * SECOND, drained).await.unwrap();
    assert_eq!(report.tally.quarantined, 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_have_all_the_time_there_is() {
    let stage = Stage::new(76);
    stage.enqueue(&[text(0)]).await;
    let handler = |_: Delivery| async {
        tokio::time::sleep(SECOND).await;
        Ok::<(), HandlerError>(())
    };
    let config = ConsumerConfig {
        handler_timeout: Duration::MAX,
        ..ConsumerConfig::default()
    };
    let report = stage.drain(Consumer::new(handler, config)).await;
    assert_eq!(report.tally.done, 1);
}

fn once() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 1,
        ..RetryPolicy::default()
    }
}

/// A handling that breaks while it is dropped.
struct Brittle;

impl Drop for Brittle {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "broken");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_breaks_when_its_time_is_over_has_failed() {
    let stage = Stage::new(72);
    stage.enqueue(&[text(0), text(1)]).await;
    let handler = |delivery: Delivery| async move {
        if text_of(&delivery.message) == "0" {
            let _brittle = Brittle;
            tokio::time::sleep(60 * SECOND).await;
        }
        Ok::<(), HandlerError>(())
    };
    let config = ConsumerConfig {
        handler_timeout: SECOND,
        retry: once(),
        ..ConsumerConfig::default()
    };
    let report = stage.drain(Consumer::new(handler, config)).await;
    assert_eq!((report.tally.done, report.tally.quarantined), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_handlers_time_begins_with_its_first_step() {
    let stage = Stage::new(73);
    let messages: Vec<_> = (0..40).map(text).collect();
    stage.enqueue(&messages).await;
    let ended = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&ended);
    let handler = move |delivery: Delivery| {
        let noted = Arc::clone(&noted);
        async move {
            let number: u32 = text_of(&delivery.message).parse().unwrap();
            tokio::time::sleep(Duration::from_millis(100) * number).await;
            noted.lock().unwrap().push(number);
            Ok::<(), HandlerError>(())
        }
    };
    let config = ConsumerConfig {
        handler_timeout: SECOND + Duration::from_millis(50),
        retry: once(),
        ..ConsumerConfig::default()
    };
    let report = stage.drain(Consumer::new(handler, config)).await;
    assert_eq!((report.tally.done, report.tally.quarantined), (11, 29));
    assert_eq!(*ended.lock().unwrap(), (0..=10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_a_dropped_run_handles_is_dropped() {
    let stage = Stage::new(74);
    let messages: Vec<_> = (0..40).map(text).collect();
    stage.enqueue(&messages).await;
    let held = Arc::new(());
    let holder = Arc::clone(&held);
    let handler = move |_: Delivery| {
        let holder = Arc::clone(&holder);
        async move {
            tokio::time::sleep(SECOND).await;
            drop(holder);
            Ok::<(), HandlerError>(())
        }
    };
    let worker = stage.worker(
        Consumer::new(handler, ConsumerConfig::default()),
        WorkerConfig::default(),
    );
    let shutdown = Shutdown::new();
    let run = worker.run(&shutdown);
    assert!(tokio::time::timeout(SECOND / 2, run).await.is_err());
    drop(worker);
    tokio::task::yield_now().await;
    assert_eq!(Arc::strong_count(&held), 1);
}
