//! The programs with their queue on a Redis server.

use std::time::Duration;

use outbox::id::Entropy;
use outbox_redis_harness::{RedisServer, Shared};
use tokio::time::sleep;

use crate::scene::Scene;
use crate::support::{Program, made_up_cities};

/// A server that other tests use, too, under a prefix of one's own.
struct Broker {
    shared: Shared,
    prefix: String,
}

impl Broker {
    async fn start() -> Self {
        let shared = Shared::start().await.unwrap();
        let prefix = format!("owm-{:x}", Entropy::from_system().next_u64());
        Self { shared, prefix }
    }

    fn on(&self, program: Program) -> Program {
        let program = program.with("--redis", self.shared.url());
        program.env("OUTBOX_REDIS_PREFIX", &self.prefix)
    }
}

#[tokio::test]
async fn a_pipeline_through_redis_handles_each_city_once_although_attempts_fail() {
    let (scene, broker) = (Scene::new(), Broker::start().await);
    let cities = made_up_cities(scene.folder(), 1_000, 7);
    let pipeline = broker.on(scene.program("pipeline").with("--cities", cities));
    let pipeline = pipeline.with("--inject-failures", "0.1");
    let ended = pipeline.run().await.expect(0);
    for figure in ["produced", "persisted", "flushed", "handled"] {
        assert_eq!(ended.count(figure), 1_000, "{figure}");
    }
    assert!(ended.count("retried") > 20, "{}", ended.told);
    assert_eq!((ended.count("duplicates"), ended.count("lost")), (0, 0));
    let census = scene.file.census().await;
    assert_eq!((census.tasks, census.observations), (1_000, 1_000));
}

#[tokio::test]
async fn several_workers_in_processes_of_their_own_share_the_stream() {
    let (scene, broker) = (Scene::new(), Broker::start().await);
    let sent = broker.on(scene.producer(600)).run().await.expect(0);
    assert_eq!(sent.count("flushed"), 600);
    let worker = || broker.on(scene.program("owm_worker").arg("--until-empty"));
    let (a, b, c) = tokio::join!(worker().run(), worker().run(), worker().run());
    let handled = [a, b, c].map(|ended| ended.expect(0).count("handled"));
    assert_eq!(handled.iter().sum::<u64>(), 600);
    let census = scene.file.census().await;
    assert_eq!((census.tasks, census.observations), (600, 600));
    let (outbox, queue) = scene.file.stats().await;
    assert_eq!((outbox.unsent(), outbox.published), (0, 600));
    assert_eq!(queue.depth(), 0, "nothing went through the file");
}

#[tokio::test]
async fn what_a_full_stream_does_not_take_waits_in_the_outbox() {
    let (scene, broker) = (Scene::new(), Broker::start().await);
    let full = broker
        .on(scene.producer(50))
        .with("--max-stream-size", "30");
    let ended = full.with("--patience", "1").run().await.expect(1);
    assert!(
        ended
            .complained
            .contains("20 tasks are still in the outbox"),
        "{}",
        ended.complained
    );
    assert!(ended.complained.contains("full"), "{}", ended.complained);
    let worker = || broker.on(scene.program("owm_worker").arg("--until-empty"));
    assert_eq!(worker().run().await.expect(0).count("handled"), 30);
    let rest = broker.on(scene.program("owm_producer").arg("--flush-only"));
    assert_eq!(rest.run().await.expect(0).count("flushed"), 20);
    assert_eq!(worker().run().await.expect(0).count("handled"), 20);
}

#[tokio::test]
async fn a_server_that_is_away_is_tried_again_as_often_as_was_said() {
    let scene = Scene::new();
    let producer = scene.producer(5).with("--redis", "redis://127.0.0.1:1");
    let producer = producer
        .with("--max-retries", "2")
        .with("--backoff-base", "10ms");
    let ended = producer.run().await.expect(1);
    let tried = ended.complained.matches("trying again in").count();
    assert_eq!(tried, 2, "{}", ended.complained);
    assert!(
        ended.complained.contains("127.0.0.1:1 cannot be reached"),
        "{}",
        ended.complained
    );
}

#[tokio::test]
async fn a_server_that_comes_back_in_time_is_found() {
    let scene = Scene::new();
    let mut server = RedisServer::start(&[]).await.unwrap();
    let url = server.url();
    server.kill().await.unwrap();
    let producer = scene.producer(5).with("--redis", url).start();
    sleep(Duration::from_millis(300)).await;
    server.restart().await.unwrap();
    assert_eq!(producer.finish().await.expect(0).count("flushed"), 5);
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_told_under_the_name_of_its_flag() {
    let scene = Scene::new();
    let producer = scene.producer(5).with("--redis", "http://localhost");
    let ended = producer.run().await.expect(2);
    assert!(ended.complained.contains("--redis"), "{}", ended.complained);
    assert!(ended.complained.contains("`http`"), "{}", ended.complained);
}

#[tokio::test]
async fn what_a_server_has_lost_is_sent_again_from_the_outbox() {
    let scene = Scene::new();
    let mut server = RedisServer::start(&[]).await.unwrap();
    let on = |program: Program| program.with("--redis", server.url());
    on(scene.producer(300)).run().await.expect(0);
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    let again = scene.program("owm_producer").arg("--flush-only");
    let again = again.with("--redis", server.url()).run().await.expect(0);
    assert_eq!(again.count("flushed"), 300, "nobody had to say so");
    let worker = scene.program("owm_worker").arg("--until-empty");
    let worked = worker.with("--redis", server.url()).run().await.expect(0);
    assert_eq!(worked.count("handled"), 300);
    // Where somebody says so, it is sent once more; it is there, and nothing is added.
    let again = scene
        .program("owm_producer")
        .arg("--flush-only")
        .arg("--replay");
    again.with("--redis", server.url()).run().await.expect(0);
    let worker = scene.program("owm_worker").arg("--until-empty");
    let worked = worker.with("--redis", server.url()).run().await.expect(0);
    assert_eq!(worked.count("handled") + worked.count("duplicates"), 0);
}
