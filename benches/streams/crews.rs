use std::sync::Arc;

use outbox::consume::{Consumer, ConsumerConfig};
use tokio::time::Instant;

use super::drain::{config, fill, nothing, work};
use super::server::Server;
use crate::Scale;
use crate::report::{Report, Target, median};

/// Two and four workers beside one, each with connections of its own.
pub(crate) fn of_workers(scale: &Scale, report: &mut Report) {
    let count = scale.messages(20_000, 100_000);
    let server = Server::start();
    let sizes = [1, 2, 4];
    let mut rates = sizes.map(|_| Vec::new());
    for _ in 0..scale.rounds {
        for (size, rates) in sizes.into_iter().zip(&mut rates) {
            rates.push(rate(&server, count, size));
        }
    }
    let [one, rest @ ..] = rates.map(|mut rates| median(&mut rates));
    for (size, several) in sizes.into_iter().skip(1).zip(rest) {
        let variant = format!("{size} workers on Redis beside 1, messages/s");
        report.ratio("S-workers", &variant, (several, one), Target::AtLeast(0.9));
    }
}

fn rate(server: &Server, count: usize, size: usize) -> f64 {
    server.empty();
    fill(&mut server.wire(), count);
    let queues = (0..size).map(|_| server.queue(&server.store())).collect();
    let consumer = Arc::new(Consumer::new(nothing, ConsumerConfig::default()));
    let started = Instant::now();
    let done = server.runtime.block_on(work(queues, consumer, &config()));
    assert_eq!(done, count as u64);
    count as f64 / started.elapsed().as_secs_f64()
}
