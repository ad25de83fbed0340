//! A delivery whose handler kills its process is taken over a few times, and then quarantined.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use outbox_core::HandlerError;
use outbox_core::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use outbox_core::delivery::{Delivery, Quarantined};
use outbox_core::ports::Queue;
use outbox_core::report::Tally;
use outbox_core::signal::Shutdown;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::fixture::{SECOND, text};
use crate::stage::{Recorder, Stage, plain, text_of};

/// A process that `poison` kills, run again and again until the queue is empty; how often it died.
struct Mortal {
    stage: Stage,
    dies: Arc<Notify>,
    poison: &'static [&'static str],
}

impl Mortal {
    fn new(seed: u64, poison: &'static [&'static str]) -> Self {
        Self {
            stage: Stage::new(seed),
            dies: Arc::default(),
            poison,
        }
    }

    fn worker(&self, config: WorkerConfig) -> Worker {
        let (dies, poison) = (Arc::clone(&self.dies), self.poison);
        let handler = move |delivery: Delivery| {
            let dies = Arc::clone(&dies);
            async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if poison.contains(&text_of(&delivery.message).as_str()) {
                    dies.notify_one();
                    std::future::pending::<()>().await;
                }
                // Longer than the poison takes, so that it kills all that is handled beside it.
                tokio::time::sleep(Duration::from_millis(15)).await;
                Ok::<_, HandlerError>(())
            }
        };
        let consumer = Consumer::new(handler, ConsumerConfig::default());
        self.stage.worker(consumer, config)
    }

    async fn enqueue(&self, count: usize) {
        let tasks: Vec<_> = (0..count).map(text).collect();
        self.stage.enqueue(&tasks).await;
    }

    /// What lies in quarantine, in the order of its numbers.
    fn dead(&self) -> Vec<String> {
        let quarantined = self.stage.queue.quarantined();
        let text = |one: &Quarantined| text_of(one.message.as_ref().unwrap());
        let mut dead: Vec<_> = quarantined.iter().map(text).collect();
        dead.sort_unstable_by_key(|text| text.parse::<u32>().unwrap());
        dead
    }

    /// What was handled in all lives, and how many deaths there were.
    async fn live(&self, config: WorkerConfig) -> (Tally, usize) {
        for deaths in 0..100 {
            let worker = self.worker(config.clone());
            let never = Shutdown::new();
            tokio::select! {
                report = worker.run_until_empty(&never) => return (report.unwrap().tally, deaths),
                () = self.dies.notified() => {}
            }
        }
        panic!("it dies for ever");
    }
}

/// A worker that holds a thousand deliveries at once.
fn holding_all() -> WorkerConfig {
    WorkerConfig {
        concurrency: 500,
        prefetch: 500,
        ..WorkerConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_kills_its_process_is_quarantined_and_takes_no_other_along() {
    for poison in [&["0"][..], &["20"], &["7", "8"]] {
        let mortal = Mortal::new(41, poison);
        mortal.enqueue(60).await;
        let (_, deaths) = mortal.live(WorkerConfig::default()).await;
        let quarantined = mortal.stage.queue.quarantined();
        assert_eq!(mortal.dead(), poison, "nobody else");
        assert!(quarantined.iter().all(|one| one.kind == "takeovers"));
        assert!(deaths >= 6 && deaths <= 6 * poison.len(), "{deaths} deaths");
    }
}

/// A thousand deliveries that died twice with workers that were killed from outside, as in a bad
/// deployment, are no poison: they wait for a group of their like, not each for the other.
#[tokio::test(start_paused = true)]
async fn many_that_died_by_chance_are_handled_soon() {
    let mortal = Mortal::new(44, &[]);
    mortal.enqueue(1_000).await;
    let config = holding_all();
    let stuck = Consumer::new(
        |_: Delivery| std::future::pending::<Result<(), HandlerError>>(),
        ConsumerConfig::default(),
    );
    let stuck = mortal.stage.worker(stuck, config.clone());
    let never = Shutdown::new();
    for deaths in 0..3 {
        // Long enough for taking over what the one before has left.
        let killed = tokio::time::timeout(5 * SECOND, stuck.run(&never)).await;
        assert!(killed.is_err(), "{deaths}");
    }
    let started = Instant::now();
    let (tally, deaths) = mortal.live(config).await;
    assert_eq!((tally.done, deaths), (1_000, 0));
    let took = started.elapsed();
    assert!(took < 10 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_with_several_that_kill_loses_nobody_else() {
    let mortal = Mortal::new(45, &["3", "333", "777"]);
    mortal.enqueue(1_000).await;
    let config = holding_all();
    mortal.live(config).await;
    assert_eq!(mortal.dead(), mortal.poison, "nobody else");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_takeovers_is_a_setting() {
    let mortal = Mortal::new(42, &["1"]);
    mortal.stage.enqueue(&[text(1)]).await;
    let config = WorkerConfig {
        max_takeovers: 0,
        ..WorkerConfig::default()
    };
    let (tally, deaths) = mortal.live(config).await;
    assert_eq!((tally.quarantined, deaths), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn slow_work_that_is_alive_is_never_counted_as_taken_over() {
    let stage = Stage::new(43);
    stage.enqueue(&(0..8).map(text).collect::<Vec<_>>()).await;
    let most = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&most);
    let recorder = Recorder::new(25 * SECOND, move |delivery| {
        seen.fetch_max(delivery.takeovers as usize, SeqCst);
        Ok(())
    });
    let worker = || {
        stage.worker(
            plain(&recorder),
            WorkerConfig {
                concurrency: 1,
                ..WorkerConfig::default()
            },
        )
    };
    let (first, second, never) = (worker(), worker(), Shutdown::new());
    let (one, other) = tokio::join!(
        first.run_until_empty(&never),
        second.run_until_empty(&never)
    );
    assert_eq!(one.unwrap().tally.done + other.unwrap().tally.done, 8);
    assert_eq!(most.load(SeqCst), 0);
    assert_eq!(
        stage
            .queue
            .stats(stage.world.clock.now())
            .await
            .unwrap()
            .depth(),
        0
    );
}
