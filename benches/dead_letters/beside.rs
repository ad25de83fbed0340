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

/// Where the dead letters are when publishing begins.
#[derive(Clone, Copy)]
enum Start {
    /// They failed, and wait in the outbox.
    Failing,
    /// They rest in quarantine.
    Resting,
}

/// The relay to a publisher that does nothing, beside dead letters on the move, and alone with as many
/// of them in the same place.
pub(crate) fn publishing(scale: &Scale, report: &mut Report) {
    let there = ("a quarantine at full speed", Beside::Quarantining);
    compare(scale, report, Start::Failing, &[there]);
    let back = [
        ("a redrive at full speed", Beside::Redriving(None)),
        ("a redrive of 2,000/s", Beside::Redriving(Some(RATE))),
    ];
    compare(scale, report, Start::Resting, &back);
}

/// Measures publishing alone and beside each of `ways`, in turns.
fn compare(scale: &Scale, report: &mut Report, start: Start, ways: &[(&str, Beside)]) {
    let mut alone = Vec::new();
    let mut beside = vec![Vec::new(); ways.len()];
    for _ in 0..scale.rounds {
        alone.push(speed(scale, start, Beside::Nothing));
        for ((_, way), speeds) in ways.iter().zip(&mut beside) {
            speeds.push(speed(scale, start, *way));
        }
    }
    let alone = median(&mut alone);
    for ((what, _), mut ours) in ways.iter().zip(beside) {
        let variant = format!("published beside {what}, messages/s");
        let ours = (median(&mut ours), alone);
        report.ratio(ID, &variant, ours, Target::AtLeast(0.9));
    }
}

/// Fresh messages a second that are published while `beside` goes on; no figure where that ends first.
fn speed(scale: &Scale, start: Start, beside: Beside) -> f64 {
    let path = fresh(scale, "dlq-beside");
    let count = scale.messages(10_000, 100_000);
    let seconds = runtime().block_on(async {
        let store = open(scale, &path, Synchronous::Full).await;
        let dead = Dead::letters(&store);
        failed(&store, &dead, count, 0).await;
        if let Start::Resting = start {
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
