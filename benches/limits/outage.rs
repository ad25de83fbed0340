use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outbox::PublishError;
use outbox::id::MessageId;
use outbox::message::Message;
use outbox::policy::BreakerConfig;
use outbox::ports::{Outbox, Publisher};
use outbox::relay::{Relay, RelayConfig};
use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteOutbox, Synchronous};
use outbox::status::Ordering;
use outbox::time::{Clock, SystemClock};
use tokio::time::{Instant, sleep, sleep_until};

use crate::Scale;
use crate::report::{Report, Target, median, quantile};
use crate::scene::{fill, fresh, message, open, outbox, remove, runtime};

const FRESH: &str = "fresh";
/// Fresh messages come this far apart: 500 a second.
const PACE: Duration = Duration::from_millis(2);

/// A destination that is away until it is let in, and has everything at once from then on.
#[derive(Clone, Default)]
struct Gate(Arc<Inside>);

#[derive(Default)]
struct Inside {
    is_open: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    waited: u64,
    /// When the first and the last message of the backlog came.
    span: Option<(Instant, Instant)>,
    fresh: HashMap<MessageId, i64>,
}

#[async_trait]
impl Publisher for Gate {
    fn name(&self) -> &'static str {
        "gate"
    }
    fn routes(&self) -> bool {
        true
    }
    fn ordering(&self) -> Ordering {
        Ordering::Commit
    }
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        if !self.0.is_open.load(SeqCst) {
            let away = |_: &Message| {
                Err(PublishError::Unavailable {
                    retry_after: None,
                    source: "the gate is closed".into(),
                })
            };
            return messages.iter().map(away).collect();
        }
        let (now, at) = (Instant::now(), SystemClock.now().as_micros());
        let mut seen = self.0.seen.lock().unwrap();
        for message in messages {
            if message.topic == FRESH {
                seen.fresh.insert(message.id, at);
            } else {
                seen.waited += 1;
                seen.span = Some((seen.span.map_or(now, |(first, _)| first), now));
            }
        }
        messages.iter().map(|_| Ok(())).collect()
    }
}

/// P12: the drain of what an outage left, while fresh messages come.
pub(crate) fn drain(scale: &Scale, report: &mut Report) {
    let waiting = scale.messages(100_000, 1_000_000);
    let (mut with, mut without, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        without.push(one_drain(scale, waiting, false).0);
        let (seconds, fresh) = one_drain(scale, waiting, true);
        with.push(seconds);
        waits.extend(fresh);
    }
    let rates = [median(&mut with), median(&mut without)].map(|time| waiting as f64 / time);
    let variant = format!("drain of {waiting} while 500/s fresh come, FULL, messages/s");
    report.ratio("P12", &variant, (rates[0], rates[1]), Target::AtLeast(0.9));
    let variant = "fresh ones meanwhile, append to publisher, p99, ms";
    report.absolute(
        "P12",
        variant,
        quantile(&mut waits, 0.99),
        Target::AtMost(100.0),
    );
}

/// How many seconds the drain took, and how many milliseconds each fresh message waited.
fn one_drain(scale: &Scale, waiting: usize, with_fresh: bool) -> (f64, Vec<f64>) {
    let path = fresh(scale, "p12");
    let gate = Gate::default();
    let appended = runtime().block_on(async {
        let store = open(scale, &path, Synchronous::Full).await;
        let outbox = outbox(&store).await;
        let config = RelayConfig {
            breaker: BreakerConfig {
                max_reset_timeout: Duration::from_secs(1),
                ..BreakerConfig::default()
            },
            ..RelayConfig::default()
        };
        let relay = Relay::new(Arc::new(outbox.clone()), Arc::new(gate.clone()), config).unwrap();
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let relaying = tokio::spawn(async move { relay.run(&stop).await.unwrap() });
        fill(&outbox, waiting).await;
        while !all_wait(&path) {
            sleep(Duration::from_millis(20)).await;
        }
        gate.0.is_open.store(true, SeqCst);
        let appended = until_drained(&outbox, &gate, waiting, with_fresh).await;
        sleep(Duration::from_millis(300)).await;
        shutdown.trigger();
        relaying.await.unwrap();
        appended
    });
    remove(&path);
    let seen = gate.0.seen.lock().unwrap();
    let (first, last) = seen.span.unwrap();
    let wait = |(id, at): &(MessageId, i64)| (seen.fresh[id] - at) as f64 / 1e3;
    (
        (last - first).as_secs_f64(),
        appended.iter().map(wait).collect(),
    )
}

/// Whether the relay has met every message and set it aside.
fn all_wait(path: &Path) -> bool {
    let ready = "SELECT EXISTS (SELECT 1 FROM outbox_messages WHERE state = 0)";
    let connection = rusqlite::Connection::open(path).unwrap();
    !connection
        .query_row(ready, [], |row| row.get::<_, bool>(0))
        .unwrap()
}

/// Waits until the backlog is gone; answers which fresh messages were appended meanwhile, and when.
async fn until_drained(
    outbox: &SqliteOutbox,
    gate: &Gate,
    waiting: usize,
    with_fresh: bool,
) -> Vec<(MessageId, i64)> {
    let mut appended = Vec::new();
    let is_over = || gate.0.seen.lock().unwrap().waited >= waiting as u64;
    let is_begun = || gate.0.seen.lock().unwrap().waited > 0;
    while !is_begun() {
        sleep(Duration::from_millis(1)).await;
    }
    let started = Instant::now();
    for number in 0_u32.. {
        sleep_until(started + PACE * number).await;
        if is_over() {
            break;
        }
        if with_fresh {
            let mut fresh = message(number as usize);
            FRESH.clone_into(&mut fresh.topic);
            let at = SystemClock.now().as_micros();
            let report = Outbox::append(outbox, &[fresh]).await.unwrap();
            appended.push((report.messages[0].id, at));
        }
    }
    appended
}
