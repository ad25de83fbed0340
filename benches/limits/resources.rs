use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use outbox::HandlerError;
use outbox::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use outbox::delivery::Delivery;
use outbox::ports::Flush;
use outbox::relay::{Relay, RelayConfig};
use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteQueue, SqliteQueueConfig, SqliteStore, Synchronous};

use crate::Scale;
use crate::report::{Report, Target};
use crate::scene::{Nowhere, cpu_seconds, fill, fresh, open, outbox, proc_figure, remove, runtime};

/// P10: what an idle relay and an idle worker cost.
pub(crate) fn idle(scale: &Scale, report: &mut Report) {
    let seconds = scale.seconds();
    let path = fresh(scale, "p10");
    let spent = runtime().block_on(async {
        let store = open(scale, &path, Synchronous::Full).await;
        let outbox = outbox(&store).await;
        let queue = SqliteQueue::open(&store, SqliteQueueConfig::named("bench"))
            .await
            .unwrap();
        let relay = Relay::new(Arc::new(outbox), Arc::new(Nowhere), RelayConfig::default());
        let handler = |_: Delivery| std::future::ready(Ok::<(), HandlerError>(()));
        let consumer = Consumer::new(handler, ConsumerConfig::default());
        let worker = Worker::new(Arc::new(queue), consumer, WorkerConfig::default());
        let shutdown = Shutdown::new();
        let (first, second) = (shutdown.clone(), shutdown.clone());
        let relaying = tokio::spawn(async move { relay.unwrap().run(&first).await.unwrap() });
        let working = tokio::spawn(async move { worker.unwrap().run(&second).await.unwrap() });
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = cpu_seconds();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let spent = cpu_seconds() - before;
        shutdown.trigger();
        relaying.await.unwrap();
        working.await.unwrap();
        spent
    });
    let percent = spent / seconds as f64 * 100.0;
    report.absolute(
        "P10",
        "idle relay and worker, % of a core",
        percent,
        Target::AtMost(0.4),
    );
    remove(&path);
}

/// P11 and P13: resident memory of a relay that drains a million messages, and bytes written.
pub(crate) fn memory_and_bytes(scale: &Scale, report: &mut Report) {
    let count = scale.messages(100_000, 1_000_000);
    let path = fresh(scale, "p11");
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--child",
            "drain",
            path.to_str().unwrap(),
            &count.to_string(),
        ])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    let mut figures = text
        .split_whitespace()
        .map(|figure| figure.parse::<f64>().unwrap());
    let (peak, bytes) = (figures.next().unwrap(), figures.next().unwrap());
    let variant = format!("{count} messages drained, peak resident MiB");
    report.absolute("P11", &variant, peak / 1024.0, Target::AtMost(64.0));
    let stored = (256 + 190) as f64;
    let variant = "bytes written, append to settled, beside payload and headers";
    report.ratio(
        "P13",
        variant,
        (bytes / count as f64, stored),
        Target::AtMost(6.0),
    );
    remove(&path);
}

/// Fills an outbox and drains it; prints the peak of resident memory in KiB and bytes written.
pub(crate) fn child_drain(arguments: &[String]) {
    let [path, count] = arguments else {
        panic!("a path and a number")
    };
    let count: usize = count.parse().unwrap();
    runtime().block_on(async {
        let store = SqliteStore::open(path).await.unwrap();
        let outbox = outbox(&store).await;
        fill(&outbox, count).await;
        let relay = Relay::new(Arc::new(outbox), Arc::new(Nowhere), RelayConfig::default());
        assert!(relay.unwrap().flush().await.unwrap().is_complete());
    });
    println!(
        "{} {}",
        proc_figure("/proc/self/status", "VmHWM:"),
        written_bytes()
    );
}

fn written_bytes() -> u64 {
    proc_figure("/proc/self/io", "write_bytes:")
}
