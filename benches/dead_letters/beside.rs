use std::sync::Arc;

use outbox::relay::{Relay, RelayConfig};
use outbox::signal::Shutdown;
use outbox::sqlite::{SqliteStore, Synchronous};
use tokio::time::Instant;

use super::ID;
use super::given::{Dead, failed};
use crate::Scale;
use crate::report::{Report, Target, median};
use crate::scene::{Counting, fill, fresh, open, outbox, remove, runtime};

/// How many messages a second are redriven beside publishing.
const RATE: u32 = 2_000;

/// What goes on while messages are published.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    Quarantining,
    Redriving(Option<u32>),
}

/// The relay to a publisher that does nothing, beside dead letters on the move, and alone.
pub(crate) fn publishing(scale: &Scale, report: &mut Report) {
    let ways = [
        (Beside::Nothing, String::new()),
        (Beside::Quarantining, "quarantine at full speed".to_owned()),
        (Beside::Redriving(None), "redrive at full speed".to_owned()),
        (Beside::Redriving(Some(RATE)), format!("redrive, {RATE}/s")),
    ];
    let mut speeds = ways.each_ref().map(|_| Vec::new());
    for _ in 0..scale.rounds {
        for ((way, _), speeds) in ways.iter().zip(&mut speeds) {
            speeds.push(speed(scale, *way));
        }
    }
    let [alone, beside @ ..] = speeds.map(|mut speeds| median(&mut speeds));
    for ((_, what), ours) in ways.iter().skip(1).zip(beside) {
        let variant = format!("published beside a {what}, messages/s");
        report.ratio(ID, &variant, (ours, alone), Target::AtLeast(0.9));
    }
}

/// Fresh messages a second that are published while `beside` goes on; no figure where that ends first.
fn speed(scale: &Scale, beside: Beside) -> f64 {
    let path = fresh(scale, "dlq-beside");
    let count = scale.messages(10_000, 100_000);
    let seconds = runtime().block_on(async {
        let store = open(scale, &path, Synchronous::Full).await;
        let dead = Dead::letters(&store);
        failed(&store, &dead, count, 0).await;
        if let Beside::Redriving(_) = beside {
            dead.quarantine_all().await;
        }
        let outbox = outbox(&store).await;
        fill(&outbox, count).await;
        let shutdown = Shutdown::new();
        let moving = tokio::spawn(on_the_move(dead, beside, shutdown.clone()));
        let seconds = drain(&store, count).await;
        let is_beside = !moving.is_finished() || matches!(beside, Beside::Nothing);
        shutdown.trigger();
        moving.await.unwrap();
        if is_beside { seconds } else { f64::NAN }
    });
    remove(&path);
    count as f64 / seconds
}

/// Moves dead letters until nothing is left to move, or `shutdown`.
async fn on_the_move(dead: Dead, beside: Beside, shutdown: Shutdown) {
    match beside {
        Beside::Nothing => {}
        Beside::Quarantining => {
            dead.quarantine_all().await;
        }
        Beside::Redriving(rate) => {
            dead.redrive_all(rate, &shutdown).await;
        }
    }
}

/// How many seconds a relay takes for `count` fresh messages.
async fn drain(store: &SqliteStore, count: usize) -> f64 {
    let gate = Counting::until(count);
    let outbox = Arc::new(outbox(store).await);
    let relay = Relay::new(outbox, Arc::new(gate.clone()), RelayConfig::default()).unwrap();
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let started = Instant::now();
    let relaying = tokio::spawn(async move { relay.run(&stop).await });
    gate.all_came().await;
    let seconds = started.elapsed().as_secs_f64();
    shutdown.trigger();
    relaying.await.unwrap().unwrap();
    seconds
}
