use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outbox::PublishError;
use outbox::message::Message;
use outbox::ports::{Outbox, Publisher};
use outbox::relay::{Relay, RelayConfig};
use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteStore, Synchronous};
use outbox::status::Ordering;
use outbox::time::{Clock, SystemClock};

use crate::Scale;
use crate::report::{Report, Target, quantile};
use crate::scene::{fresh, message, open, outbox, remove, runtime};

/// Notes when each message arrives, in microseconds of the system's clock.
#[derive(Clone, Default)]
struct Arrivals(Arc<Mutex<HashMap<String, i64>>>);

#[async_trait]
impl Publisher for Arrivals {
    fn name(&self) -> &'static str {
        "arrivals"
    }
    fn ordering(&self) -> Ordering {
        Ordering::Commit
    }
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let now = SystemClock.now().as_micros();
        let mut arrivals = self.0.lock().unwrap();
        for message in messages {
            arrivals.insert(message.id.to_string(), now);
        }
        messages.iter().map(|_| Ok(())).collect()
    }
}

/// P9: from a commit's return to the handler's start, in an idle system.
pub(crate) fn commit_to_handler(scale: &Scale, report: &mut Report) {
    let samples = if scale.short { 100 } else { 500 };
    for (name, other_process, targets) in [
        ("in process", false, (0.2, 1.0)),
        ("from another process", true, (1.0, 5.0)),
    ] {
        let path = fresh(scale, "p9");
        let mut waits = measure(scale, &path, samples, other_process);
        let (median, slow) = (quantile(&mut waits, 0.5), quantile(&mut waits, 0.99));
        let variant = |what: &str| format!("commit to handler {name}, {what}, ms");
        report.absolute("P9", &variant("p50"), median, Target::AtMost(targets.0));
        report.absolute("P9", &variant("p99"), slow, Target::AtMost(targets.1));
        remove(&path);
    }
}

fn measure(scale: &Scale, path: &Path, samples: usize, other_process: bool) -> Vec<f64> {
    let arrivals = Arrivals::default();
    let committed = runtime().block_on(async {
        let store = open(scale, path, Synchronous::Full).await;
        let outbox = outbox(&store).await;
        let publisher = Arc::new(arrivals.clone());
        let relay = Relay::new(Arc::new(outbox.clone()), publisher, RelayConfig::default());
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let relaying = tokio::spawn(async move { relay.unwrap().run(&stop).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(200)).await;
        let path = path.to_owned();
        let committed = if other_process {
            tokio::task::spawn_blocking(move || spawn_appender(&path, samples))
                .await
                .unwrap()
        } else {
            append(&outbox, samples).await
        };
        // What is not woken for comes with the safety poll, and later than this.
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if arrivals.0.lock().unwrap().len() >= committed.len() {
                break;
            }
        }
        shutdown.trigger();
        relaying.await.unwrap();
        committed
    });
    let arrivals = arrivals.0.lock().unwrap();
    committed
        .iter()
        .map(|(id, at)| (arrivals[id] - at).max(0) as f64 / 1e3)
        .collect()
}

/// Appends now and then, and answers when each append returned.
async fn append(outbox: &dyn Outbox, samples: usize) -> Vec<(String, i64)> {
    let mut committed = Vec::new();
    for number in 0..samples {
        tokio::time::sleep(Duration::from_millis(7 + number as u64 % 7)).await;
        let report = outbox.append(&[message(number)]).await.unwrap();
        committed.push((
            report.messages[0].id.to_string(),
            SystemClock.now().as_micros(),
        ));
    }
    committed
}

fn spawn_appender(path: &Path, samples: usize) -> Vec<(String, i64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--child",
            "append",
            path.to_str().unwrap(),
            &samples.to_string(),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let committed = lines
        .map(|line| {
            let line = line.unwrap();
            let (id, at) = line.split_once(' ').unwrap();
            (id.to_owned(), at.parse().unwrap())
        })
        .collect();
    assert!(child.wait().unwrap().success());
    committed
}

/// The other process: appends, and prints when each append returned.
pub(crate) fn child(arguments: &[String]) {
    let [path, samples] = arguments else {
        panic!("a path and a number")
    };
    let committed = runtime().block_on(async {
        let store = SqliteStore::open(path).await.unwrap();
        let outbox = outbox(&store).await;
        append(&outbox, samples.parse().unwrap()).await
    });
    for (id, at) in committed {
        println!("{id} {at}");
    }
}
