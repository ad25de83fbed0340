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
    let (spent, commands) = server.runtime.block_on(async {
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
        let asked = || server.info("stats", "total_commands_processed");
        let (spent, commands) = (cpu_seconds(), asked());
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let figures = (cpu_seconds() - spent, asked() - commands);
        shutdown.trigger();
        relaying.await.unwrap();
        working.await.unwrap();
        figures
    });
    let percent = spent / seconds as f64 * 100.0;
    let variant = "idle relay and worker on Redis, % of a core";
    report.absolute("P10", variant, percent, Target::AtMost(0.4));
    let a_minute = commands * 60.0 / seconds as f64;
    // A script counts with every command in it.
    let variant = "idle worker, commands in the server a minute";
    report.absolute("P10", variant, a_minute, Target::AtMost(30.0));
    remove(&path);
}
