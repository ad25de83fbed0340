//! A model of claim, lease, publish, settle, quarantine and inbox, checked in every order of events;
//! flawed variants that have to fail; and simulated runs replayed on the same specification.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod store;
mod system;
mod trace;

use outbox_core::status::OnFailure;
use outbox_core::testing::{Guard, Scenario, World};
use stateright::{Checker, HasDiscoveries, Model};
use store::Flaw;
use system::System;
use trace::Replay;

fn small(flaw: Option<Flaw>) -> System {
    System {
        flaw,
        keys: vec![Some(1), Some(1)],
        relays: 2,
        workers: 2,
        deaths: 1,
        takeovers: 2,
        deliveries: 3,
    }
}

/// Checks every state of a system that has no flaw; how many there are.
fn check(system: System) -> usize {
    let checker = system.checker().threads(2).spawn_bfs().join();
    checker.assert_properties();
    println!("{} states, all of them fine", checker.unique_state_count());
    checker.unique_state_count()
}

#[test]
fn two_messages_of_a_key_two_relays_and_two_workers_keep_every_rule_in_every_order() {
    assert!(check(small(None)) > 10_000);
}

#[test]
fn a_key_and_a_message_without_one_keep_every_rule_in_every_order() {
    let system = System {
        keys: vec![Some(1), None, Some(1)],
        workers: 1,
        ..small(None)
    };
    assert!(check(system) > 10_000);
}

#[test]
fn more_deaths_and_takeovers_keep_every_rule_in_every_order() {
    let system = System {
        deaths: 2,
        workers: 1,
        takeovers: 3,
        ..small(None)
    };
    assert!(check(system) > 10_000);
}

#[test]
fn every_flaw_is_found() {
    for (flaw, rule) in [
        (Flaw::StaleRelaySettles, "a stale token changes nothing"),
        (Flaw::StaleWorkerSettles, "a stale token changes nothing"),
        (Flaw::EpochStays, "a stale token changes nothing"),
        (Flaw::KeyNotHeld, "each key keeps its order"),
        (Flaw::EnqueueForgets, "the queue adds a message once"),
        (Flaw::SinkDoesNotFence, "each key keeps its order"),
        (Flaw::NoInbox, "each effect exists once"),
        (Flaw::SettlesUnsent, "nothing committed is lost"),
        (Flaw::SendsOutOfTurn, "each key keeps its order"),
        (
            Flaw::AcksFirst,
            "nothing is acknowledged before it is handled",
        ),
        (Flaw::GoesOnAfterRefusal, "each key keeps its order"),
    ] {
        let found = HasDiscoveries::AllOf([rule].into_iter().collect());
        let checker = small(Some(flaw)).checker().threads(2).finish_when(found);
        let checker = checker.spawn_bfs().join();
        let path = checker.discovery(rule);
        let path = path.unwrap_or_else(|| panic!("{flaw:?} does not break \"{rule}\""));
        let steps = path.into_actions().len();
        println!("{flaw:?} breaks \"{rule}\" within {steps} steps");
    }
}

#[test]
fn simulated_runs_do_what_the_specification_says() {
    let mut steps = 0;
    for seed in 0..300 {
        let mut scenario = Scenario::drawn(seed);
        // The specification knows no messages that are overtaken on purpose.
        if scenario.relay.on_failure == OnFailure::SkipMessage {
            scenario.relay.on_failure = OnFailure::BlockKey;
        }
        let inbox = scenario.guard == Guard::Inbox;
        let outcome = World::of(seed, scenario).run().unwrap();
        let mut replay = Replay::new(inbox);
        for (at, step) in &outcome.trace {
            let taken = replay.step(step);
            taken.unwrap_or_else(|problem| panic!("seed {seed}, {at}: {problem}"));
        }
        assert!(replay.has_ended(), "seed {seed}: {:?}", replay.store);
        steps += outcome.trace.len();
    }
    println!("{steps} steps");
    assert!(steps > 100_000);
}
