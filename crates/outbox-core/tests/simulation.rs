//! The simulated world: many seeds, the same run for the same seed, and a rule that is broken is told.
//!
//! `OUTBOX_SIM_SEEDS=5000` runs more seeds; `cargo run --release -p outbox-proof -- sim` runs very
//! many, and `-- replay SEED` one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use outbox_core::HandlerError;
use outbox_core::delivery::Delivery;
use outbox_core::testing::{FaultRates, Guard, Scenario, Step, World, sweep};

fn seeds() -> u64 {
    let seeds = std::env::var("OUTBOX_SIM_SEEDS");
    seeds.map_or(200, |seeds| seeds.parse().expect("a whole number"))
}

#[test]
fn every_rule_holds_whatever_fails() {
    let done = sweep(0..seeds(), 2, World::new, |_| {});
    let told: Vec<String> = done.violations.iter().map(ToString::to_string).collect();
    assert!(told.is_empty(), "{}", told.join("\n\n"));
    assert_eq!(done.seeds, seeds());
    assert!(
        done.crashes > seeds() && done.faults > 10 * seeds(),
        "{done:?}"
    );
    assert!(
        done.handled > 40 * seeds() && done.quarantined > seeds(),
        "{done:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..10 {
        let [first, second, other] = [seed, seed, seed + 1].map(|s| World::new(s).run().unwrap());
        assert_eq!(first.fingerprint, second.fingerprint, "seed {seed}");
        assert_ne!(first.fingerprint, other.fingerprint, "seed {seed}");
    }
}

#[test]
fn a_world_without_faults_does_each_message_once_and_at_once() {
    let config = Scenario {
        faults: FaultRates::NONE,
        guard: Guard::Cache,
        limit: None,
        ..Scenario::drawn(1)
    };
    let outcome = World::of(1, config).run().unwrap();
    assert_eq!((outcome.crashes, outcome.faults), (0, 0));
    assert_eq!(outcome.handled + outcome.quarantined, outcome.messages);
    let lost = |step: &Step| matches!(step, Step::Settled { took: false, .. });
    assert!(!outcome.trace.iter().any(|(_, step)| lost(step)));
}

#[test]
fn a_handler_of_the_users_own_is_simulated() {
    let seen = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&seen);
    let handler = move |_: Delivery| {
        let number = counted.fetch_add(1, Relaxed);
        async move {
            tokio::time::sleep(Duration::from_millis(3)).await;
            match number % 5 {
                0 => Err(HandlerError::retry("not now")),
                _ => Ok(()),
            }
        }
    };
    let outcome = World::new(3).handler(Arc::new(handler)).run().unwrap();
    assert!(seen.load(Relaxed) >= outcome.handled);
}

#[test]
fn a_rule_that_is_broken_is_told_with_the_command_that_shows_it_again() {
    let config = Scenario {
        relays: 0,
        ..Scenario::drawn(7)
    };
    let violation = World::of(7, config).run().unwrap_err();
    let text = violation.to_string();
    assert!(
        text.contains("\"every message ends\" does not hold"),
        "{text}"
    );
    assert!(text.ends_with("replay with: just replay 7"), "{text}");
}
