//! The OWM examples, run as programs: what they tell, what they leave in the file, and how they end.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout
)]

#[allow(dead_code, unused_imports, reason = "each test uses its part")]
mod support;

use std::path::Path;
use std::time::Duration;

use support::{File, Finished, Program, cities, made_up_cities, shipped_cities, write};
use tempfile::{TempDir, tempdir};
use tokio::time::{Instant, sleep};

/// A folder with a file for outbox and queue, and a list of cities.
struct Scene {
    folder: TempDir,
    file: File,
}

impl Scene {
    fn new() -> Self {
        let folder = tempdir().unwrap();
        let file = File::in_folder(folder.path());
        Self { folder, file }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn program(&self, name: &str) -> Program {
        Program::new(name)
            .arg("--json")
            .with("--outbox", self.file.path())
    }

    /// The cron job over `count` cities.
    fn producer(&self, count: usize) -> Program {
        let cities = made_up_cities(self.folder(), count, 7);
        self.program("owm_producer").with("--cities", cities)
    }

    async fn work_until_empty(&self) -> Finished {
        let worker = self.program("owm_worker").arg("--until-empty");
        worker.run().await.expect(0)
    }
}

#[tokio::test]
async fn a_pipeline_over_a_few_cities_handles_each_of_them_once_although_attempts_fail() {
    let scene = Scene::new();
    let cities = cities(scene.folder(), 200);
    let pipeline = scene.program("pipeline").with("--cities", cities);
    let ended = pipeline
        .with("--inject-failures", "0.5")
        .run()
        .await
        .expect(0);
    for figure in ["produced", "persisted", "flushed", "handled"] {
        assert_eq!(ended.count(figure), 200, "{figure}");
    }
    assert!(ended.count("retried") > 20, "{}", ended.told);
    assert_eq!((ended.count("duplicates"), ended.count("lost")), (0, 0));
    let figures = ended.figures();
    let millis = |name: &str| figures[name].as_f64().unwrap();
    assert!(millis("seconds") > 0.0);
    assert!(0.0 < millis("p50_ms") && millis("p50_ms") <= millis("p99_ms"));
    assert_eq!(scene.file.census().await.tasks, 200);
    let progress: Vec<_> = ended
        .complained
        .lines()
        .filter(|line| line.contains('%'))
        .collect();
    assert_eq!(progress.len(), 10, "{}", ended.complained);
}

#[tokio::test]
async fn ten_thousand_cities_flow_through_the_pipeline_while_attempts_fail() {
    let scene = Scene::new();
    let pipeline = scene.program("pipeline").with("--cities", shipped_cities());
    let ended = pipeline
        .with("--inject-failures", "0.05")
        .run()
        .await
        .expect(0);
    for figure in ["produced", "persisted", "flushed", "handled"] {
        assert_eq!(ended.count(figure), 10_000, "{figure}");
    }
    assert_eq!((ended.count("duplicates"), ended.count("lost")), (0, 0));
    assert!(
        (200..1_000).contains(&ended.count("retried")),
        "{}",
        ended.told
    );
    let census = scene.file.census().await;
    assert_eq!((census.observations, census.tasks), (10_000, 10_000));
    let (outbox, queue) = scene.file.stats().await;
    assert_eq!((outbox.unsent(), queue.depth()), (0, 0));
}

#[tokio::test]
async fn the_same_seed_fails_the_same_attempts() {
    let mut retried = Vec::new();
    for seed in ["1", "1", "2"] {
        let scene = Scene::new();
        let cities = made_up_cities(scene.folder(), 100, 7);
        let pipeline = scene.program("pipeline").with("--cities", cities);
        let pipeline = pipeline
            .with("--inject-failures", "0.4")
            .with("--seed", seed);
        let ended = pipeline
            .with("--backoff-base", "10ms")
            .run()
            .await
            .expect(0);
        retried.push(ended.count("retried"));
    }
    assert_eq!(retried[0], retried[1]);
    assert_ne!(
        retried[0], retried[2],
        "two seeds may agree by chance, but these do not"
    );
}

#[tokio::test]
async fn what_an_earlier_run_has_left_is_handled_but_not_counted() {
    let scene = Scene::new();
    // One run died after its flush, and one before.
    scene
        .producer(30)
        .with("--run", "flushed")
        .run()
        .await
        .expect(0);
    let full = scene
        .producer(20)
        .with("--run", "unsent")
        .with("--max-stream-size", "30");
    full.with("--patience", "1").run().await.expect(1);

    let cities = made_up_cities(scene.folder(), 40, 7);
    let pipeline = scene.program("pipeline").with("--cities", cities);
    let ended = pipeline.run().await.expect(0);
    for figure in ["produced", "persisted", "flushed", "handled"] {
        assert_eq!(ended.count(figure), 40, "{figure}");
    }
    assert_eq!((ended.count("duplicates"), ended.count("lost")), (0, 0));
    assert!(
        ended
            .complained
            .contains("50 tasks that an earlier run had left"),
        "{ended:?}"
    );
    assert_eq!(scene.file.census().await.tasks, 90);
}

#[tokio::test]
async fn a_pipeline_run_again_under_its_name_adds_nothing_and_has_lost_nothing() {
    let scene = Scene::new();
    let cities = made_up_cities(scene.folder(), 50, 7);
    for added in [50, 0] {
        let pipeline = scene.program("pipeline").with("--cities", &cities);
        let ended = pipeline.with("--run", "again").run().await.expect(0);
        assert_eq!(
            (ended.count("persisted"), ended.count("handled")),
            (added, added)
        );
        assert_eq!(
            (ended.count("duplicates"), ended.count("lost")),
            (50 - added, 0)
        );
    }
    assert_eq!(scene.file.census().await.observations, 50);
}

#[tokio::test]
async fn a_producer_that_is_started_again_adds_only_what_is_missing() {
    let scene = Scene::new();
    let first = scene.producer(30).with("--run", "r").run().await.expect(0);
    assert_eq!((first.count("persisted"), first.count("flushed")), (30, 30));
    let again = scene.producer(50).with("--run", "r").run().await.expect(0);
    assert_eq!(
        (again.count("produced"), again.count("persisted")),
        (50, 20)
    );
    assert_eq!(
        (again.count("duplicates"), again.count("flushed")),
        (30, 20)
    );
    let other = scene.producer(50).with("--run", "s").run().await.expect(0);
    assert_eq!(
        (other.count("persisted"), other.count("duplicates")),
        (50, 0)
    );
    assert_eq!(scene.work_until_empty().await.count("handled"), 100);
}

#[tokio::test]
async fn bad_rows_are_told_by_line_and_stop_no_other() {
    let scene = Scene::new();
    let rows = "geoname_id,name,latitude,longitude\n\
        1,\"Good, quoted\",10.5,20.5\n\
        x,Letters,1,2\n\
        2,Pole,90.01,0\n\
        3,Nowhere,NaN,0\n\
        0,Zero,1,1\n\
        4,Short,1\n\
        5,Far,1,-180.5\n\
        6,Date line,-90,180\n";
    let cities = write(scene.folder(), "bad.csv", rows);
    let ended = scene
        .program("owm_producer")
        .with("--cities", cities)
        .run()
        .await
        .expect(3);
    assert_eq!((ended.count("produced"), ended.count("flushed")), (2, 2));
    for told in [
        "line 3: geoname_id `x` is not a number",
        "line 4: latitude 90.01 is not from -90 to 90 degrees",
        "line 5: latitude NaN is not",
        "line 6: city id 0 is not positive",
        "line 7: has 3 fields where the header has 4",
        "line 8: longitude -180.5 is not from -180 to 180 degrees",
        "6 rows gave no task",
    ] {
        assert!(
            ended.complained.contains(told),
            "{told}\n{}",
            ended.complained
        );
    }
    assert_eq!(scene.work_until_empty().await.count("handled"), 2);
}

#[tokio::test]
async fn bytes_that_are_no_text_are_a_bad_row_and_stop_no_other() {
    let scene = Scene::new();
    let path = scene.folder().join("latin1.csv");
    std::fs::write(
        &path,
        b"geoname_id,name,latitude,longitude\n1,K\xf6ln,1,1\n2,Bonn,1,1\n",
    )
    .unwrap();
    let ended = scene
        .program("owm_producer")
        .with("--cities", path)
        .run()
        .await
        .expect(3);
    assert_eq!(ended.count("flushed"), 1);
    assert!(
        ended.complained.contains("line 2: is not UTF-8"),
        "{}",
        ended.complained
    );
}

#[tokio::test]
async fn cities_that_cannot_be_read_are_refused_before_anything_is_touched() {
    let scene = Scene::new();
    let no_columns = write(scene.folder(), "other.csv", "id,lat\n1,2\n");
    for (cities, told) in [
        (scene.folder().join("nowhere.csv"), "No such file"),
        (scene.folder().to_owned(), "cannot read the cities"),
        (no_columns, "has no column `geoname_id`"),
    ] {
        for program in ["owm_producer", "pipeline"] {
            let ended = scene
                .program(program)
                .with("--cities", &cities)
                .run()
                .await
                .expect(2);
            assert!(ended.complained.contains(told), "{}", ended.complained);
        }
    }
    assert!(!scene.file.path().exists());
}

#[tokio::test]
async fn every_setting_that_cannot_be_used_is_told_at_once() {
    let scene = Scene::new();
    for program in ["owm_producer", "owm_worker", "pipeline"] {
        let program = scene.program(program).with("--connections", "0");
        let program = program
            .env("OUTBOX_BATCH_SIZE", "many")
            .env("OUTBOX_LEASE", "5");
        let program = program.env("OUTBOX_TIME_ZONE", "Europe/Atlantis");
        let ended = program.env("OUTBOX_STREAMS", "x").run().await.expect(2);
        for told in [
            "--connections: `0` is not",
            "OUTBOX_BATCH_SIZE: `many` is not",
            "OUTBOX_LEASE: `5` is not a duration",
            "OUTBOX_TIME_ZONE: `Europe/Atlantis` is not",
            "OUTBOX_STREAMS: is not known; did you mean OUTBOX_STREAM?",
        ] {
            assert!(
                ended.complained.contains(told),
                "{told}\n{}",
                ended.complained
            );
        }
    }
    assert!(!scene.file.path().exists());
}

#[tokio::test]
async fn a_flag_outweighs_its_variable() {
    let scene = Scene::new();
    let elsewhere = scene.folder().join("deep/elsewhere.db");
    let elsewhere = elsewhere.to_str().unwrap();
    scene
        .producer(3)
        .env("OUTBOX_PATH", elsewhere)
        .run()
        .await
        .expect(0);
    assert!(scene.file.path().exists() && !Path::new(elsewhere).exists());
    let cities = scene.folder().join("cities.csv");
    let by_variable = Program::new("owm_producer").env("OUTBOX_PATH", elsewhere);
    by_variable.with("--cities", cities).run().await.expect(0);
    assert!(Path::new(elsewhere).exists(), "the folder is made, too");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_told_by_its_name() {
    let scene = Scene::new();
    std::fs::write(
        scene.file.path(),
        "a diary, and not a database at all\n".repeat(99),
    )
    .unwrap();
    let ended = scene.producer(3).run().await.expect(1);
    assert!(
        ended.complained.contains("outbox.db"),
        "{}",
        ended.complained
    );
}

#[tokio::test]
async fn a_full_queue_leaves_tasks_in_the_outbox_until_a_worker_has_made_room() {
    let scene = Scene::new();
    let producer = scene
        .producer(250)
        .with("--run", "r")
        .with("--max-stream-size", "100");
    let full = producer.with("--patience", "1").run().await.expect(1);
    assert_eq!((full.count("persisted"), full.count("flushed")), (250, 100));
    for told in [
        "150 tasks are still in the outbox",
        "high-water mark is 100",
        "Nothing is lost",
    ] {
        assert!(full.complained.contains(told), "{}", full.complained);
    }
    assert_eq!(scene.work_until_empty().await.count("handled"), 100);
    let rest = scene
        .program("owm_producer")
        .arg("--flush-only")
        .run()
        .await
        .expect(0);
    assert_eq!((rest.count("produced"), rest.count("flushed")), (0, 150));
    assert_eq!(scene.work_until_empty().await.count("handled"), 150);
    assert_eq!(scene.file.census().await.tasks, 250);
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_leaves_the_rest_to_the_next() {
    let scene = Scene::new();
    scene.producer(3_000).run().await.expect(0);
    let worker = scene.program("owm_worker").start();
    while scene.file.observations().await < 50 {
        sleep(Duration::from_millis(20)).await;
    }
    worker.signal("TERM").await;
    let stopped = worker.finish().await.expect(0);
    let handled = stopped.count("handled");
    assert!((50..3_000).contains(&handled), "{handled}");
    let rest = scene.work_until_empty().await;
    assert_eq!(
        rest.count("handled"),
        3_000 - handled,
        "nothing is done twice"
    );
    assert_eq!(rest.count("duplicates"), 0);
}

#[tokio::test]
async fn no_more_tasks_are_handled_in_a_second_than_the_rate_allows() {
    let scene = Scene::new();
    scene.producer(100).run().await.expect(0);
    let worker = scene
        .program("owm_worker")
        .arg("--until-empty")
        .with("--rate", "50");
    let started = Instant::now();
    let ended = worker.run().await.expect(0);
    assert_eq!((ended.count("handled"), ended.count("retried")), (100, 0));
    // 5 at once, and then 50 a second.
    assert!(
        started.elapsed() > Duration::from_millis(1_850),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn no_more_tasks_are_handled_in_a_day_than_the_daily_limit() {
    let scene = Scene::new();
    scene.producer(60).run().await.expect(0);
    // Somewhere it is about to be midnight, but hardly in both of these places.
    let mut handled = Vec::new();
    for zone in ["Europe/Stockholm", "Pacific/Auckland"] {
        let worker = scene.program("owm_worker").with("--daily-limit", "25");
        let worker = worker
            .with("--rate", "1000")
            .with("--time-zone", zone)
            .start();
        sleep(Duration::from_secs(2)).await;
        worker.signal("TERM").await;
        handled.push(worker.finish().await.expect(0).count("handled"));
    }
    assert!(handled[0] == 25 || handled[1] == 25, "{handled:?}");
    assert!(handled.iter().all(|handled| *handled <= 50), "{handled:?}");
}
