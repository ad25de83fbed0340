//! Simulated worlds, many or one.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use clap::Args;
use outbox_core::testing::{Sweep, World, sweep};
use outbox_core::time::{Clock, SystemClock};

/// How often the progress of a long run is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Which worlds to run.
#[derive(Args)]
pub(crate) struct Seeds {
    /// How many.
    #[arg(default_value_t = 10_000)]
    count: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many at once; as many as there are processors where it is not given.
    #[arg(long)]
    threads: Option<usize>,
}

/// Runs the worlds; whether every rule held in all of them.
pub(crate) fn run(seeds: &Seeds) -> bool {
    let threads = seeds
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let began = SystemClock.now();
    let told = AtomicU64::new(0);
    let progress = |so_far: &Sweep| {
        let passed = SystemClock.now().since(began);
        let period = passed.as_secs() / TOLD_EVERY.as_secs();
        if told.swap(period, Relaxed) != period {
            eprintln!("{}", figures(so_far, passed));
        }
    };
    let worlds = seeds.from..seeds.from.saturating_add(seeds.count);
    let done = sweep(worlds, threads, World::new, progress);
    for violation in &done.violations {
        println!("{violation}\n");
    }
    println!("{}", figures(&done, SystemClock.now().since(began)));
    println!(
        "messages: {}, handled: {}, quarantined: {}; processes that died: {}, faults: {}; \
         slowest recovery: {:.1?}",
        done.messages, done.handled, done.quarantined, done.crashes, done.faults, done.slowest
    );
    done.violations.is_empty()
}

fn figures(done: &Sweep, passed: Duration) -> String {
    let rate = done.seeds as f64 / passed.as_secs_f64().max(0.001) * 60.0;
    let violations = done.violations.len();
    format!(
        "seeds: {}, seeds a minute: {rate:.0}, violations: {violations}, seconds: {:.0}",
        done.seeds,
        passed.as_secs_f64()
    )
}

/// Runs one world twice, and tells its steps; whether every rule held and both runs were the same.
pub(crate) fn replay(seed: u64) -> bool {
    match (World::new(seed).run(), World::new(seed).run()) {
        (Ok(first), Ok(second)) => {
            for (at, step) in &first.trace {
                println!("{at} {step:?}");
            }
            println!(
                "seed {seed}: every rule holds; fingerprint {:016x}",
                first.fingerprint
            );
            first.fingerprint == second.fingerprint
        }
        (Err(violation), _) | (_, Err(violation)) => {
            for (at, step) in &violation.trace {
                println!("{at} {step:?}");
            }
            println!("{violation}");
            false
        }
    }
}
