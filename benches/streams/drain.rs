use std::sync::{Arc, Mutex};
use std::time::Duration;

use outbox::HandlerError;
use outbox::consume::{Consumer, ConsumerConfig, Semantics, Worker, WorkerConfig};
use outbox::delivery::Delivery;
use outbox::policy::Quota;
use outbox::redis::{
    DedupLayout, RedisDeduplicationCache, RedisGcraLimiter, RedisLimiterConfig, RedisQueue,
    RedisStore, SetsLayout,
};
use outbox::signal::Shutdown;
use tokio::time::Instant;

use super::server::{BATCH, GROUP, STREAM, Server, batches, frame};
use super::wire::Wire;
use crate::Scale;
use crate::report::{Report, Target, in_turns};

/// Puts so many messages into the stream, without any of our code.
pub(super) fn fill(wire: &mut Wire, count: usize) {
    let mut left = count;
    while left > 0 {
        let part = left.min(50_000);
        for batch in batches(part) {
            let frames: Vec<_> = batch.iter().map(frame).collect();
            wire.add(STREAM, frames.iter().map(Vec::as_slice));
        }
        left -= part;
    }
}

pub(super) fn config() -> WorkerConfig {
    WorkerConfig {
        concurrency: BATCH,
        prefetch: BATCH,
        batch: BATCH,
        ..WorkerConfig::default()
    }
}

pub(super) async fn nothing(_: Delivery) -> Result<(), HandlerError> {
    Ok(())
}

/// Workers that share a consumer, each with a queue of its own, until nothing is left; how many
/// deliveries they handled.
pub(super) async fn work(
    queues: Vec<RedisQueue>,
    consumer: Arc<Consumer>,
    config: &WorkerConfig,
) -> u64 {
    let mut crew = Vec::new();
    for queue in queues {
        let worker = Worker::new(Arc::new(queue), Arc::clone(&consumer), config.clone()).unwrap();
        crew.push(tokio::spawn(async move {
            worker.run_until_empty(&Shutdown::new()).await.unwrap()
        }));
    }
    let mut done = 0;
    for worker in crew {
        done += worker.await.unwrap().tally.done;
    }
    done
}

/// The rates of workers and of the limit, which drain the same stream.
fn drained_beside(
    (server, stores): (&Server, &[RedisStore]),
    (scale, config): (&Scale, &WorkerConfig),
    consumer: impl Fn() -> Consumer,
) -> (f64, f64) {
    let count = scale.messages(20_000, 100_000);
    let mut wire = server.wire();
    let limit = || {
        server.empty();
        let mut wire = server.wire();
        fill(&mut wire, count);
        wire.command(&[b"XGROUP", b"CREATE", STREAM, GROUP, b"0"]);
        let started = Instant::now();
        while wire.take(STREAM, GROUP) > 0 {}
        started.elapsed()
    };
    let ours = || {
        server.empty();
        fill(&mut wire, count);
        let queues: Vec<_> = stores.iter().map(|store| server.queue(store)).collect();
        let consumer = Arc::new(consumer());
        let started = Instant::now();
        let done = server.runtime.block_on(work(queues, consumer, config));
        assert_eq!(done, count as u64);
        started.elapsed()
    };
    let (ours, limit) = in_turns(scale.rounds, ours, limit);
    (count as f64 / ours, count as f64 / limit)
}

/// P7: handlers that do nothing, one worker and four.
pub(crate) fn no_op(scale: &Scale, report: &mut Report) {
    let server = Server::start();
    for (workers, least) in [(1, 0.5), (4, 0.8)] {
        let stores: Vec<_> = (0..workers).map(|_| server.store()).collect();
        let consumer = || Consumer::new(nothing, ConsumerConfig::default());
        let rates = drained_beside((&server, &stores), (scale, &config()), consumer);
        let variant = format!("dequeue and settle, {workers} workers, messages/s");
        report.ratio("P7", &variant, rates, Target::AtLeast(least));
    }
}

/// P14: deduplication, a limit, a breaker, retries and serial keys.
pub(crate) fn with_all_guarantees(scale: &Scale, report: &mut Report) {
    let server = Server::start();
    let config = WorkerConfig {
        serial_keys: true,
        ..config()
    };
    let layouts = [
        (DedupLayout::default(), "a key an id"),
        (DedupLayout::Sets(SetsLayout::default()), "ids in sets"),
    ];
    for (layout, what) in layouts {
        for workers in [1, 4] {
            let stores: Vec<_> = (0..workers).map(|_| server.store()).collect();
            let consumer = || guarded(&server, &stores[0], layout);
            let rates = drained_beside((&server, &stores), (scale, &config), consumer);
            let variant = format!("all guarantees, {what}, {workers} workers, messages/s");
            report.ratio("P14", &variant, rates, Target::AtLeast(0.3));
        }
    }
}

fn guarded(server: &Server, store: &RedisStore, layout: DedupLayout) -> Consumer {
    let cache = RedisDeduplicationCache::open_with(store, "bench-dedup", layout);
    let cache = server.runtime.block_on(cache).unwrap();
    let quota = Quota::new(1_000_000, Duration::from_secs(1), 1_000_000).unwrap();
    let limiter = RedisGcraLimiter::new(store, "bench-limit", quota, RedisLimiterConfig::default());
    let config = ConsumerConfig {
        semantics: Semantics::EffectivelyOnce,
        ..ConsumerConfig::default()
    };
    Consumer::new(nothing, config)
        .dedup(Arc::new(cache))
        .limiter(Arc::new(limiter.unwrap()))
}

/// P11: many messages through one stream, with four workers: what is pending stays bounded, and a
/// drained stream takes no more memory than an empty one.
pub(crate) fn a_million(scale: &Scale, report: &mut Report) {
    let count = scale.messages(100_000, 1_000_000);
    let server = Server::start();
    let stores: Vec<_> = (0..4).map(|_| server.store()).collect();
    let queues: Vec<_> = stores.iter().map(|store| server.queue(store)).collect();
    let mut wire = server.wire();
    let before = memory_of_stream(&mut wire);
    fill(&mut wire, count);
    let full = memory_of_stream(&mut wire);
    let pending = Arc::new(Mutex::default());
    let watch = server.runtime.spawn(watch_pending(
        server.queue(&stores[0]),
        Arc::clone(&pending),
    ));
    let consumer = Arc::new(Consumer::new(nothing, ConsumerConfig::default()));
    let started = Instant::now();
    let done = server.runtime.block_on(work(queues, consumer, &config()));
    let seconds = started.elapsed().as_secs_f64();
    watch.abort();
    assert_eq!(done, count as u64);
    let after = memory_of_stream(&mut wire);
    println!(
        "{count} messages in {seconds:.1} s; bytes: {before} empty, {full} full, {after} drained"
    );
    let seen = pending.lock().unwrap();
    let most_of = |seen: &[u64]| seen.iter().max().copied().unwrap_or_default() as f64;
    let (first, last) = seen.split_at(seen.len() / 2);
    report.absolute(
        "P11",
        "most pending entries, the last half of the time beside the first",
        most_of(last) / most_of(first).max(1.0),
        Target::AtMost(1.1),
    );
    let most = most_of(&seen);
    // What four workers handle, and what they have fetched ahead. What is decided and not settled yet
    // is pending, too, so that a moment may have more.
    let bound = (4 * 2 * BATCH) as f64;
    report.absolute(
        "P11",
        "most pending entries, 4 workers",
        most,
        Target::AtMost(bound),
    );
    let grown = (after - before) as f64;
    report.absolute(
        "P11",
        "bytes that a drained stream keeps",
        grown,
        Target::AtMost(4_096.0),
    );
}

async fn watch_pending(queue: RedisQueue, seen: Arc<Mutex<Vec<u64>>>) {
    loop {
        let now = outbox::time::Clock::now(&outbox::time::SystemClock);
        let stats = outbox::ports::Queue::stats(&queue, now).await.unwrap();
        seen.lock().unwrap().push(stats.in_flight);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn memory_of_stream(wire: &mut Wire) -> i64 {
    match wire.command(&[b"MEMORY", b"USAGE", STREAM, b"SAMPLES", b"0"]) {
        super::wire::Answer::Number(bytes) => bytes,
        _ => 0,
    }
}
