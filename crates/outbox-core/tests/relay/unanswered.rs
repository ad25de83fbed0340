//! Answers of the store that are lost: what took effect is not done again.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use outbox_core::policy::{Backoff, RetryPolicy};
use outbox_core::relay::{Relay, RelayConfig};
use outbox_core::signal::Shutdown;

use crate::fixture::{SECOND, Sink, World, text};
use crate::flaky;
use crate::spy::Spy;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A message whose first attempt fails; the answer of its settlement is lost, and the claim beside it
/// hands it out again. The attempts that were handed out, where that claim is answered as told.
async fn attempts(seed: u64, claim_fails: bool, claim_takes: u64) -> Vec<u32> {
    let world = World::new(seed);
    world.append(&[text(0)]).await;
    let outbox = Spy::new(world.outbox.clone());
    let (fails, takes) = (outbox.claims_fail.clone(), outbox.claims_take.clone());
    let (unanswered, attempts) = (outbox.settles_unanswered.clone(), outbox.attempts.clone());
    unanswered.store(true, SeqCst);
    let mut sink = Sink::new(flaky(1));
    sink.latency = Box::new(|_| 100 * MILLISECOND);
    let backoff = Backoff {
        base: MILLISECOND,
        cap: MILLISECOND,
    };
    let config = RelayConfig {
        retry: RetryPolicy {
            backoff,
            ..RetryPolicy::default()
        },
        ..RelayConfig::default()
    };
    let sink = Arc::new(sink);
    let relay = Relay::new(Arc::new(outbox), sink.clone(), config).unwrap();
    let relay = relay.driven_by(world.clock.clone(), world.entropy.clone());
    let shutdown = Shutdown::new();
    let trouble = async {
        // After the first claim, and before the settlement and the claim beside it.
        tokio::time::sleep(50 * MILLISECOND).await;
        fails.store(claim_fails, SeqCst);
        takes.store(claim_takes, SeqCst);
        tokio::time::sleep(SECOND).await;
        fails.store(false, SeqCst);
        takes.store(0, SeqCst);
        unanswered.store(false, SeqCst);
        tokio::time::sleep(10 * SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), trouble);
    assert_eq!(report.unwrap().tally.done, 1);
    assert_eq!(sink.texts(), ["0"]);
    assert_eq!(world.unsent().await, 0);
    attempts.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_counted_once_where_its_settlement_and_the_claim_beside_it_are_unanswered() {
    assert_eq!(attempts(51, true, 0).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_counted_once_where_a_claim_brings_its_message_before_the_loss_is_known() {
    assert_eq!(attempts(52, false, 0).await, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_counted_once_where_a_claim_brings_its_message_after_the_loss_is_known() {
    assert_eq!(attempts(53, false, 2_000).await, [1, 2]);
}
