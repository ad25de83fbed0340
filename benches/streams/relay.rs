use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outbox::HandlerError;
use outbox::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use outbox::delivery::Delivery;
use outbox::ports::{Flush, Outbox};
use outbox::redis::{EntryIds, RedisPublisher, RedisPublisherConfig};
use outbox::relay::{Relay, RelayConfig};
use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteOutbox, Synchronous};
use outbox::time::{Clock, SystemClock};
use tokio::time::Instant;

use super::server::{BATCH, NAME, STREAM, Server};
use super::wire::Wire;
use crate::Scale;
use crate::raw::{Raw, rows};
use crate::report::{Report, Target, in_turns, quantile};
use crate::scene::{fill, fresh, message, open, remove};

fn publisher(server: &Server, ids: EntryIds) -> RedisPublisher {
    let config = RedisPublisherConfig {
        ids,
        high_water: 10_000_000,
        ..RedisPublisherConfig::named(NAME)
    };
    RedisPublisher::new(&server.store(), config).unwrap()
}

/// P5: from an outbox to a stream, beside one thread that reads, pipelines and deletes.
pub(crate) fn to_stream(scale: &Scale, report: &mut Report) {
    let server = Server::start();
    for (ids, what, least) in [
        (
            EntryIds::Sequence,
            "relay to a stream, ids are sequences",
            1.0,
        ),
        (
            EntryIds::Server,
            "relay to a stream, idempotent by id",
            0.75,
        ),
    ] {
        let rates = relayed_beside(&server, scale, ids);
        let variant = format!("{what}, FULL, messages/s");
        report.ratio("P5", &variant, rates, Target::AtLeast(least));
    }
}

fn relayed_beside(server: &Server, scale: &Scale, ids: EntryIds) -> (f64, f64) {
    let count = scale.messages(50_000, 200_000);
    let (ours_path, raw_path) = (fresh(scale, "p5"), fresh(scale, "p5-raw"));
    let store = server
        .runtime
        .block_on(open(scale, &ours_path, Synchronous::Full));
    let outbox = SqliteOutbox::on(&store);
    let raw = Raw::open(&raw_path, "FULL");
    let mut wire = server.wire();
    let mut salt = 0;
    let ours = || {
        server.empty();
        let publisher = Arc::new(publisher(server, ids));
        let relay = Relay::new(Arc::new(outbox.clone()), publisher, RelayConfig::default());
        server.runtime.block_on(fill(&outbox, count));
        let started = Instant::now();
        let report = server.runtime.block_on(relay.unwrap().flush()).unwrap();
        assert_eq!((report.tally.done, report.unsent), (count as u64, 0));
        started.elapsed()
    };
    let limit = || {
        server.empty();
        for _ in 0..count / BATCH {
            salt += 1;
            raw.insert_batch(&rows(BATCH, salt));
        }
        let started = Instant::now();
        while relay_raw(&raw, &mut wire) > 0 {}
        started.elapsed()
    };
    let (ours, limit) = in_turns(scale.rounds, ours, limit);
    remove(&ours_path);
    remove(&raw_path);
    (count as f64 / ours, count as f64 / limit)
}

/// Reads the next 500 rows, adds an entry for each in one pipeline, and deletes the rows.
fn relay_raw(raw: &Raw, wire: &mut Wire) -> usize {
    let mut select = raw
        .0
        .prepare_cached(
            "SELECT seq, id, attempts, body FROM outbox_messages \
             WHERE state = 0 ORDER BY seq LIMIT 500",
        )
        .unwrap();
    let read = |row: &rusqlite::Row<'_>| {
        let id: [u8; 16] = row.get(1)?;
        Ok((row.get::<_, i64>(0)?, id, row.get::<_, Vec<u8>>(3)?))
    };
    let rows: Vec<_> = select
        .query_map([], read)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let Some(last) = rows.last() else { return 0 };
    wire.add(STREAM, rows.iter().map(|(_, _, body)| body.as_slice()));
    raw.0.execute_batch("BEGIN IMMEDIATE").unwrap();
    raw.0
        .prepare_cached("DELETE FROM outbox_messages WHERE seq <= ?1")
        .unwrap()
        .execute([last.0])
        .unwrap();
    raw.0.execute_batch("COMMIT").unwrap();
    std::hint::black_box(&rows).len()
}

/// P9: from a commit's return to the handler's start, through relay and stream, in an idle system.
pub(crate) fn commit_to_handler(scale: &Scale, report: &mut Report) {
    let samples = if scale.short { 100 } else { 500 };
    let server = Server::start();
    let path = fresh(scale, "p9");
    let starts: Arc<Mutex<HashMap<String, i64>>> = Arc::default();
    let store = server.store();
    let queue = server.queue(&store);
    let publisher = Arc::new(publisher(&server, EntryIds::Server));
    let committed = server.runtime.block_on(async {
        let outbox = SqliteOutbox::on(&open(scale, &path, Synchronous::Full).await);
        let relay = Relay::new(Arc::new(outbox.clone()), publisher, RelayConfig::default());
        let noted = Arc::clone(&starts);
        let handler = move |delivery: Delivery| {
            let now = SystemClock.now().as_micros();
            noted
                .lock()
                .unwrap()
                .insert(delivery.message.id.to_string(), now);
            std::future::ready(Ok::<(), HandlerError>(()))
        };
        let consumer = Consumer::new(handler, ConsumerConfig::default());
        let worker = Worker::new(Arc::new(queue), consumer, WorkerConfig::default());
        let shutdown = Shutdown::new();
        let (first, second) = (shutdown.clone(), shutdown.clone());
        let relaying = tokio::spawn(async move { relay.unwrap().run(&first).await.unwrap() });
        let working = tokio::spawn(async move { worker.unwrap().run(&second).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut committed = Vec::new();
        for number in 0..samples {
            tokio::time::sleep(Duration::from_millis(7 + number as u64 % 7)).await;
            let appended = outbox.append(&[message(number)]).await.unwrap();
            committed.push((
                appended.messages[0].id.to_string(),
                SystemClock.now().as_micros(),
            ));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        shutdown.trigger();
        relaying.await.unwrap();
        working.await.unwrap();
        committed
    });
    let starts = starts.lock().unwrap();
    let wait = |(id, at): &(String, i64)| (starts[id] - at).max(0) as f64 / 1e3;
    let mut waits: Vec<f64> = committed.iter().map(wait).collect();
    for (what, share, most) in [("p50", 0.5, 0.6), ("p99", 0.99, 4.0)] {
        let variant = format!("commit to handler through relay and stream, {what}, ms");
        report.absolute(
            "P9",
            &variant,
            quantile(&mut waits, share),
            Target::AtMost(most),
        );
    }
    remove(&path);
}
