//! What the programs do, and what they tell of it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::scene::Scene;
use crate::support::{cities, made_up_cities, shipped_cities};

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
