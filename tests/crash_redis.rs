//! Kills producers, relays, workers and the Redis server between them, at random moments, and counts
//! what is left.
//!
//! `OUTBOX_KILLS` and `OUTBOX_KILL_SEED` are those of the tests on one file.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::panic, clippy::print_stdout)]

#[allow(dead_code, unused_imports, reason = "each test uses its part")]
mod support;

use std::path::PathBuf;
use std::time::Duration;

use outbox::ports::{Clock, Queue};
use outbox::redis::{RedisQueue, RedisQueueConfig, RedisStore};
use outbox::time::SystemClock;
use outbox_redis_harness::{Answer, DURABLE, RedisServer};
use support::{
    Census, File, Mayhem, Program, WORKER, assert_recovered, finished, is_done, made_up_cities,
    numbered, recoveries, until,
};
use tempfile::{TempDir, tempdir};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

/// How long the longest life of the server is.
const SERVER: Duration = Duration::from_secs(3);

const STREAM: &str = "owm-ingestion-stream";

/// A file, a server, and processes that work on both.
struct Scene {
    /// Removed with the scene.
    _folder: TempDir,
    file: File,
    cities: PathBuf,
    count: usize,
    url: String,
    server: Mutex<RedisServer>,
}

impl Scene {
    async fn new(count: usize, server: &[&str]) -> Self {
        let folder = tempdir().unwrap();
        let server = RedisServer::start(server).await.unwrap();
        Self {
            file: File::in_folder(folder.path()),
            cities: made_up_cities(folder.path(), count, 12),
            _folder: folder,
            count,
            url: server.url(),
            server: Mutex::new(server),
        }
    }

    fn program(&self, name: &str) -> Program {
        let program = Program::new(name)
            .arg("--json")
            .with("--outbox", self.file.path())
            .with("--redis", &self.url);
        let program = program.env("OUTBOX_CIRCUIT_BREAKER_RESET_TIMEOUT", "200ms");
        let program = program.env("OUTBOX_CIRCUIT_BREAKER_MAX_RESET_TIMEOUT", "1s");
        program
            .env("OUTBOX_REDIS_TIMEOUT", "1s")
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

    /// Kills workers; they may also end by themselves, where the server was away for too long.
    async fn torment_workers(&self, mayhem: &Mayhem) {
        while !mayhem.is_over() {
            mayhem.torment(self.worker(), WORKER).await.map(is_done);
        }
    }

    /// Kills the server now and then; it is away for a moment.
    async fn torment_server(&self, mayhem: &Mayhem) -> usize {
        let mut killed = 0;
        while !mayhem.is_over() {
            sleep(mayhem.lifetime(SERVER)).await;
            self.kill_server(mayhem.lifetime(Duration::from_millis(500)))
                .await;
            killed += 1;
        }
        killed
    }

    async fn kill_server(&self, away: Duration) {
        let mut server = self.server.lock().await;
        server.kill().await.unwrap();
        sleep(away).await;
        server.restart().await.unwrap();
    }

    /// Completes the runs, by producers that nobody kills.
    async fn complete(&self, runs: &[String]) {
        for run in runs {
            while !is_done(self.producer(run).run().await) {}
        }
        while !is_done(self.relay().run().await) {}
    }

    async fn work_until_empty(&self) {
        let (a, b) = tokio::join!(self.drain(), self.drain());
        a.expect(0);
        b.expect(0);
    }

    async fn drain(&self) -> support::Finished {
        self.worker().arg("--until-empty").run().await
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
        assert_eq!(self.file.stats().await.0.unsent(), 0);
        let store = RedisStore::open(&self.url).await.unwrap();
        let queue = RedisQueue::open(&store, RedisQueueConfig::named(STREAM))
            .await
            .unwrap();
        let stats = queue.stats(SystemClock.now()).await.unwrap();
        assert_eq!((stats.depth(), stats.quarantined), (0, 0));
        census
    }

    /// How many entries were ever added to the stream, and how many are in it.
    async fn entries(&self) -> (i64, i64) {
        let key = format!("outbox:{{{STREAM}}}:stream");
        let mut wire = self.server.lock().await.wire().await.unwrap();
        let about = wire
            .command(&["XINFO", "STREAM", &key])
            .await
            .unwrap()
            .list();
        let figure = |name: &str| {
            let mut about = about
                .iter()
                .skip_while(|item| item.text().as_deref() != Some(name));
            about.nth(1).and_then(Answer::number).unwrap()
        };
        (figure("entries-added"), figure("length"))
    }
}

#[tokio::test]
async fn whoever_is_killed_the_server_too_no_task_is_lost_or_done_twice() {
    let (scene, mayhem) = (Scene::new(200, DURABLE).await, Mayhem::of(80));
    let started = Instant::now();
    let (a, b, (), (), (), servers) = tokio::join!(
        mayhem.torment_producers("a", |run| scene.producer(run)),
        mayhem.torment_producers("b", |run| scene.producer(run)),
        mayhem.torment_relays(|| scene.relay()),
        scene.torment_workers(&mayhem),
        scene.torment_workers(&mayhem),
        scene.torment_server(&mayhem),
    );
    let killing = started.elapsed();
    let runs: Vec<String> = numbered("a", a).chain(numbered("b", b)).collect();
    let finish = async {
        scene.complete(&runs).await;
        scene.work_until_empty().await;
    };
    finished(runs.len(), finish).await;
    let census = scene.check(runs.len()).await;
    let all = i64::try_from(runs.len() * scene.count).unwrap();
    println!(
        "kills: {} and {servers} of the server, put to sleep: {}, tasks: {all}, lost: {}, doubled: {}",
        mayhem.killed(),
        mayhem.stopped(),
        all - census.tasks,
        census.observations - census.tasks,
    );
    println!(
        "{} processes and {servers} times the server killed in {killing:.1?}; {} tasks handled by \
         {} processes, all over after {:.1?}",
        mayhem.killed(),
        census.tasks,
        census.processes,
        started.elapsed()
    );
    assert!(servers > 2 && census.processes > 1, "{census:?}");
}

#[tokio::test]
async fn no_copy_comes_to_the_stream_whoever_is_killed_on_the_way_to_it() {
    let (scene, mayhem) = (Scene::new(400, DURABLE).await, Mayhem::of(40));
    let (a, (), (), servers) = tokio::join!(
        mayhem.torment_producers("a", |run| scene.producer(run)),
        mayhem.torment_relays(|| scene.relay()),
        mayhem.torment_relays(|| scene.relay()),
        scene.torment_server(&mayhem),
    );
    let runs: Vec<String> = numbered("a", a).collect();
    scene.complete(&runs).await;
    let all = i64::try_from(a * scene.count).unwrap();
    assert_eq!(scene.entries().await, (all, all));
    println!("{all} tasks, each added once; the server was killed {servers} times");
    scene.work_until_empty().await;
    scene.check(a).await;
}

#[tokio::test]
async fn what_a_server_without_persistence_loses_is_sent_again_and_done_once() {
    let (scene, mayhem) = (Scene::new(200, &[]).await, Mayhem::of(25));
    let (a, (), (), servers) = tokio::join!(
        mayhem.torment_producers("a", |run| scene.producer(run)),
        mayhem.torment_relays(|| scene.relay()),
        scene.torment_workers(&mayhem),
        scene.torment_server(&mayhem),
    );
    let runs: Vec<String> = numbered("a", a).collect();
    scene.complete(&runs).await;
    scene.kill_server(Duration::ZERO).await;
    // Nobody who was there knows what was lost; a relay that is new finds it out.
    while !is_done(scene.relay().run().await) {}
    scene.work_until_empty().await;
    scene.check(a).await;
    println!(
        "{a} runs; all that was in the server was lost {} times",
        servers + 1
    );
}

/// Kills a worker that holds tasks; how long it took until others had done all of them.
async fn worker_recovery(mayhem: &Mayhem) -> Duration {
    let scene = Scene::new(1_000, &[]).await;
    scene.producer("r").run().await.expect(0);
    let doomed = scene.worker().start();
    until(async || scene.file.observations().await > 0).await;
    sleep(mayhem.lifetime(Duration::from_millis(30))).await;
    let killed_at = SystemClock.now();
    assert!(doomed.kill().await);
    scene.work_until_empty().await;
    scene.check(1).await;
    scene.file.last_observed().await.since(killed_at)
}

#[tokio::test]
async fn what_a_killed_worker_held_on_redis_is_done_by_another_within_seconds() {
    let times = recoveries(worker_recovery).await;
    assert_recovered("workers on Redis", times);
}
