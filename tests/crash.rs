//! Kills real processes that work on one file, at random moments, and counts what is left.
//!
//! `OUTBOX_KILLS` sets how many are killed in the greatest of these tests, `OUTBOX_KILL_SEED` what
//! the moments are drawn from.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::panic, clippy::print_stdout)]

#[allow(dead_code, unused_imports, reason = "each test uses its part")]
mod support;

use std::path::PathBuf;
use std::time::Duration;

use outbox::ports::Clock;
use outbox::time::SystemClock;
use support::{
    Census, File, Mayhem, Program, Running, WORKER, assert_recovered, finished, is_done,
    made_up_cities, numbered, recoveries, stop, until,
};
use tempfile::{TempDir, tempdir};
use tokio::time::{Instant, sleep};

/// A file, and processes that work on it.
struct Scene {
    /// Removed with the scene.
    _folder: TempDir,
    file: File,
    cities: PathBuf,
    count: usize,
}

impl Scene {
    /// A scene whose runs are about `count` cities.
    fn new(count: usize) -> Self {
        let folder = tempdir().unwrap();
        Self {
            file: File::in_folder(folder.path()),
            cities: made_up_cities(folder.path(), count, 12),
            _folder: folder,
            count,
        }
    }

    fn program(&self, name: &str) -> Program {
        let program = Program::new(name)
            .arg("--json")
            .with("--outbox", self.file.path());
        // A queue that is full often, and that is asked again soon.
        let program = program.env("OUTBOX_CIRCUIT_BREAKER_MAX_RESET_TIMEOUT", "1s");
        program
            .env("OUTBOX_HIGH_WATER_MARK", "2000")
            .env("OUTBOX_BATCH_SIZE", "100")
            // Workers die here more often than any task may be blamed for.
            .env("OUTBOX_MAX_TAKEOVERS", "1000")
    }

    fn producer(&self, run: &str) -> Program {
        let program = self.program("owm_producer").with("--cities", &self.cities);
        program.with("--run", run).with("--key-by", "country")
    }

    fn relay(&self) -> Program {
        self.program("owm_producer").arg("--flush-only")
    }

    fn worker(&self) -> Program {
        self.program("owm_worker")
    }

    async fn torment_workers(&self, mayhem: &Mayhem, failures: &str) {
        while !mayhem.is_over() {
            let worker = self.worker().with("--inject-failures", failures);
            let ended = mayhem.torment(worker, WORKER).await;
            assert!(ended.is_none(), "a worker ended by itself: {ended:?}");
        }
    }

    /// Lets the runs be completed, and everything be handled, by processes that nobody kills; they
    /// also find what the killed have left.
    async fn finish(&self, runs: &[String]) {
        let worker = self.worker().start();
        for run in runs {
            while !is_done(self.producer(run).run().await) {}
        }
        self.relay().run().await.expect(0);
        stop(worker).await;
        self.worker().arg("--until-empty").run().await.expect(0);
    }

    /// What is left when everything is over: for each task of so many runs one effect, and nothing
    /// else.
    async fn check(&self, runs: usize) -> Census {
        let census = self.file.census().await;
        let tasks = i64::try_from(runs * self.count).unwrap();
        assert_eq!(census.integrity, "ok");
        assert_eq!(census.tasks, tasks, "lost: {census:?}");
        assert_eq!(census.observations, tasks, "doubled: {census:?}");
        assert_eq!(census.quarantined, 0, "{census:?}");
        assert_eq!(census.overtaken_in_outbox, 0, "{census:?}");
        assert_eq!(census.overtaken_in_queue, 0, "{census:?}");
        let (outbox, queue) = self.file.stats().await;
        assert_eq!((outbox.unsent(), queue.depth()), (0, 0));
        census
    }

    /// Stops a process where it is, but not inside a transaction: it would keep everybody out.
    async fn pause(&self, sleeper: &Running) {
        sleeper.signal("STOP").await;
        while !self.file.is_writable().await {
            sleeper.signal("CONT").await;
            sleep(Duration::from_millis(1)).await;
            sleeper.signal("STOP").await;
        }
    }

    async fn unsent(&self) -> u64 {
        self.file.stats().await.0.unsent()
    }
}

#[tokio::test]
async fn whoever_is_killed_no_task_is_lost_or_done_twice_and_none_overtakes_its_key() {
    let (scene, mayhem) = (Scene::new(300), Mayhem::of(300));
    let started = Instant::now();
    let (a, b, ..) = tokio::join!(
        mayhem.torment_producers("a", |run| scene.producer(run)),
        mayhem.torment_producers("b", |run| scene.producer(run)),
        mayhem.torment_relays(|| scene.relay()),
        scene.torment_workers(&mayhem, "0"),
        scene.torment_workers(&mayhem, "0.2"),
    );
    let killing = started.elapsed();
    let runs: Vec<String> = numbered("a", a).chain(numbered("b", b)).collect();
    finished(runs.len(), scene.finish(&runs)).await;
    let census = scene.check(runs.len()).await;
    let all = i64::try_from(runs.len() * scene.count).unwrap();
    println!(
        "kills: {}, put to sleep: {}, tasks: {all}, lost: {}, doubled: {}",
        mayhem.killed(),
        mayhem.stopped(),
        all - census.tasks,
        census.observations - census.tasks,
    );
    println!(
        "{} kills in {killing:.1?}, {} tasks handled by {} processes, {} of them out of their key's \
         order (which workers that die do not keep), all over after {:.1?}",
        mayhem.killed(),
        census.tasks,
        census.processes,
        census.overtaken_by_effect,
        started.elapsed()
    );
    assert!(
        census.processes > 10,
        "the killed had no time to do anything: {census:?}"
    );
}

#[tokio::test]
async fn one_worker_that_lives_keeps_the_order_of_each_key_whatever_happens_to_producers_and_relays()
 {
    let (scene, mayhem) = (Scene::new(300), Mayhem::of(40));
    let worker = scene.worker().with("--workers", "1").start();
    let (runs, ..) = tokio::join!(
        mayhem.torment_producers("a", |run| scene.producer(run)),
        mayhem.torment_relays(|| scene.relay()),
        mayhem.torment_relays(|| scene.relay()),
    );
    let runs: Vec<String> = numbered("a", runs).collect();
    for run in &runs {
        while !is_done(scene.producer(run).run().await) {}
    }
    let all = i64::try_from(runs.len() * scene.count).unwrap();
    until(async || scene.file.observations().await == all).await;
    stop(worker).await;
    let census = scene.check(runs.len()).await;
    assert_eq!(
        (census.processes, census.overtaken_by_effect),
        (1, 0),
        "{census:?}"
    );
}

#[tokio::test]
async fn a_pipeline_that_is_killed_again_and_again_completes_its_run() {
    let (scene, mayhem) = (Scene::new(1_000), Mayhem::of(20));
    let pipeline = || {
        let pipeline = scene.program("pipeline").with("--cities", &scene.cities);
        pipeline.with("--run", "r").with("--inject-failures", "0.1")
    };
    while !mayhem.is_over() {
        let ended = mayhem.torment(pipeline(), WORKER).await;
        assert!(ended.is_none_or(is_done));
    }
    let ended = pipeline().run().await.expect(0);
    assert_eq!((ended.count("produced"), ended.count("lost")), (1_000, 0));
    scene.check(1).await;
}

/// Kills a worker that holds tasks; how long it took until another had done all of them.
async fn worker_recovery(mayhem: &Mayhem) -> Duration {
    // So few tasks that it is the recovery that takes time, and not the work.
    let scene = Scene::new(40);
    scene.producer("r").run().await.expect(0);
    let doomed = scene.worker().start();
    until(async || scene.file.observations().await > 0).await;
    let heir = scene.worker().start();
    sleep(mayhem.lifetime(Duration::from_millis(30))).await;
    let killed_at = SystemClock.now();
    assert!(doomed.kill().await);
    // The last to go may be tasks whose effect the killed one had committed, and not yet settled.
    until(async || scene.file.stats().await.1.depth() == 0).await;
    let recovery = SystemClock.now().since(killed_at);
    stop(heir).await;
    scene.check(1).await;
    recovery
}

/// Kills a producer in the middle of its flush; how long it took until a relay that stood by had
/// sent everything.
async fn relay_recovery(mayhem: &Mayhem) -> Duration {
    let scene = Scene::new(3_000);
    let open = |program: Program| program.with("--max-stream-size", "100000");
    let doomed = open(scene.producer("r")).with("--batch-size", "30").start();
    until(async || scene.file.path().exists() && scene.file.stats().await.1.depth() > 0).await;
    let heir = open(scene.relay()).start();
    sleep(mayhem.lifetime(Duration::from_millis(100))).await;
    doomed.kill().await;
    let killed = Instant::now();
    heir.finish().await.expect(0);
    let recovery = killed.elapsed();
    let (outbox, queue) = scene.file.stats().await;
    assert_eq!((outbox.unsent(), queue.depth()), (0, 3_000));
    recovery
}

#[tokio::test]
async fn what_a_killed_worker_held_is_done_by_another_within_seconds() {
    let times = recoveries(worker_recovery).await;
    let lease = times
        .iter()
        .filter(|time| **time > Duration::from_secs(2))
        .count();
    assert!(lease >= 5, "the killed held nothing: {times:?}");
    assert_recovered("workers", times);
}

#[tokio::test]
async fn what_a_killed_relay_held_is_sent_by_another_within_seconds() {
    let times = recoveries(relay_recovery).await;
    assert_recovered("relays", times);
}

#[tokio::test]
async fn a_relay_that_sleeps_through_the_end_of_its_lease_changes_nothing_when_it_wakes() {
    let scene = Scene::new(20_000);
    let patient = |program: Program| program.with("--max-stream-size", "100000");
    let sleeper = patient(scene.producer("r")).start();
    until(async || scene.file.path().exists() && scene.file.stats().await.1.depth() > 0).await;
    scene.pause(&sleeper).await;
    let left = scene.unsent().await;
    assert!(left > 0, "it was not stopped in the middle of its flush");
    let heir = patient(scene.relay()).run().await.expect(0);
    assert!(heir.count("flushed") > 0, "{left} were left: {heir:?}");
    let (outbox, queue) = scene.file.stats().await;
    assert_eq!(
        (outbox.unsent(), outbox.quarantined, queue.depth()),
        (0, 0, 20_000)
    );

    sleeper.signal("CONT").await;
    let woken = sleeper.finish().await.expect(0);
    assert_eq!(woken.count("persisted"), 20_000);
    assert_eq!(
        scene.file.stats().await,
        (outbox, queue),
        "it changed something"
    );
    let sent = woken.count("flushed") + heir.count("flushed");
    assert!(
        sent <= 20_000,
        "what was settled by the heir was not settled again: {sent}"
    );
}

#[tokio::test]
async fn a_worker_that_sleeps_through_the_end_of_its_leases_does_nothing_twice_when_it_wakes() {
    let scene = Scene::new(1_500);
    scene.producer("r").run().await.expect(0);
    let sleeper = scene.worker().start();
    let heir = scene.worker().start();
    until(async || scene.file.observations().await >= 100).await;
    scene.pause(&sleeper).await;
    until(async || scene.file.observations().await == 1_500).await;
    sleeper.signal("CONT").await;
    stop(sleeper).await;
    stop(heir).await;
    scene.finish(&[]).await;
    scene.check(1).await;
}
