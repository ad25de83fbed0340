use std::sync::Arc;
use std::time::Duration;

use outbox::HandlerError;
use outbox::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use outbox::delivery::Delivery;
use outbox::redis::{RedisPublisher, RedisPublisherConfig};
use outbox::relay::{Relay, RelayConfig};
use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteOutbox, Synchronous};

use super::server::{NAME, Server};
use crate::Scale;
use crate::report::{Report, Target};
use crate::scene::{cpu_seconds, fresh, open, remove};

/// P10: what an idle relay and an idle worker cost, and how often they ask the server.
pub(crate) fn processor(scale: &Scale, report: &mut Report) {
    let seconds = scale.seconds();
    let server = Server::start();
    let path = fresh(scale, "p10");
    let store = server.store();
    let queue = server.queue(&store);
    let publisher = RedisPublisher::new(&store, RedisPublisherConfig::named(NAME)).unwrap();
    let (spent, requests) = server.runtime.block_on(async {
        let outbox = SqliteOutbox::on(&open(scale, &path, Synchronous::Full).await);
        let relay = Relay::new(
            Arc::new(outbox),
            Arc::new(publisher),
            RelayConfig::default(),
        );
        let handler = |_: Delivery| std::future::ready(Ok::<(), HandlerError>(()));
        let consumer = Consumer::new(handler, ConsumerConfig::default());
        let worker = Worker::new(Arc::new(queue), consumer, WorkerConfig::default());
        let shutdown = Shutdown::new();
        let (first, second) = (shutdown.clone(), shutdown.clone());
        let relaying = tokio::spawn(async move { relay.unwrap().run(&first).await.unwrap() });
        let working = tokio::spawn(async move { worker.unwrap().run(&second).await.unwrap() });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (spent, before) = (cpu_seconds(), requests(&server));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let figures = (cpu_seconds() - spent, requests(&server) - before);
        shutdown.trigger();
        relaying.await.unwrap();
        working.await.unwrap();
        figures
    });
    let percent = spent / seconds as f64 * 100.0;
    let variant = "idle relay and worker on Redis, % of a core";
    report.absolute("P10", variant, percent, Target::AtMost(0.4));
    let a_minute = requests * 60.0 / seconds as f64;
    let variant = "idle worker, requests a minute";
    report.absolute("P10", variant, a_minute, Target::AtMost(3.0));
    remove(&path);
}

/// How often a worker has asked the server: by reads, waits, and scripts.
fn requests(server: &Server) -> f64 {
    let stats = server.section("commandstats");
    let of = |command: &str| {
        let of = format!("cmdstat_{command}:calls=");
        let calls = stats.lines().find_map(|line| line.strip_prefix(&of));
        let calls = calls.and_then(|rest| rest.split(',').next()?.parse::<f64>().ok());
        calls.unwrap_or(0.0)
    };
    ["xread", "xreadgroup", "evalsha", "eval"]
        .map(of)
        .iter()
        .sum()
}
