use std::time::Duration;

use outbox::lease::{Epoch, Sequence};
use outbox::message::Message;
use outbox::ports::{Publisher, Queue};
use outbox::redis::{EntryIds, RedisPublisher, RedisPublisherConfig, RedisQueue};
use tokio::time::Instant;

use super::server::{NAME, STREAM, Server, batches, frame};
use crate::Scale;
use crate::report::{Report, Target, in_turns};

/// The rates of ours and of the limit: batches of 500 into a stream, beside one pipeline of 500 XADD.
fn batches_beside(
    server: &Server,
    scale: &Scale,
    mut ours: impl FnMut(Vec<Vec<Message>>) -> Duration,
) -> (f64, f64) {
    let count = scale.messages(20_000, 100_000);
    let mut wire = server.wire();
    let limit = || {
        server.empty();
        let batches: Vec<Vec<_>> = batches(count)
            .iter()
            .map(|batch| batch.iter().map(frame).collect())
            .collect();
        let started = Instant::now();
        for batch in &batches {
            wire.add(STREAM, batch.iter().map(Vec::as_slice));
        }
        started.elapsed()
    };
    let ours = || {
        server.empty();
        ours(batches(count))
    };
    let (ours, limit) = in_turns(scale.rounds, ours, limit);
    (count as f64 / ours, count as f64 / limit)
}

/// P6: enqueueing and publishing.
pub(crate) fn batches_of_500(scale: &Scale, report: &mut Report) {
    let server = Server::start();
    let store = server.store();
    for (flights, least) in [(1, 0.5), (2, 0.5)] {
        let rates = batches_beside(&server, scale, |batches| {
            let queue = server.queue(&store);
            let started = Instant::now();
            server.runtime.block_on(enqueue(&queue, batches, flights));
            started.elapsed()
        });
        let variant = format!("enqueue 500, idempotent by id, {flights} in flight, messages/s");
        report.ratio("P6", &variant, rates, Target::AtLeast(least));
    }
    for (ids, what, least) in [
        (EntryIds::Server, "publish 500, idempotent by id", 0.5),
        (EntryIds::Sequence, "publish 500, ids are sequences", 0.65),
    ] {
        let rates = batches_beside(&server, scale, |mut batches| {
            number(&mut batches);
            let config = RedisPublisherConfig {
                ids,
                ..RedisPublisherConfig::named(NAME)
            };
            let publisher = RedisPublisher::new(&store, config).unwrap();
            let started = Instant::now();
            server.runtime.block_on(publish(&publisher, &batches));
            started.elapsed()
        });
        report.ratio(
            "P6",
            &format!("{what}, messages/s"),
            rates,
            Target::AtLeast(least),
        );
    }
}

fn number(batches: &mut [Vec<Message>]) {
    for (message, place) in batches.iter_mut().flatten().zip(1..) {
        message.sequence = Sequence(place);
        message.epoch = Epoch(1);
    }
}

async fn publish(publisher: &RedisPublisher, batches: &[Vec<Message>]) {
    for batch in batches {
        for answer in publisher.publish(batch).await {
            answer.unwrap();
        }
    }
}

async fn enqueue(queue: &RedisQueue, batches: Vec<Vec<Message>>, flights: usize) {
    let share = batches.len().div_ceil(flights);
    let mut calls = Vec::new();
    for part in batches.chunks(share) {
        let (queue, part) = (queue.clone(), part.to_vec());
        calls.push(tokio::spawn(async move {
            for batch in &part {
                for answer in queue.enqueue(batch).await {
                    answer.unwrap();
                }
            }
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
}
