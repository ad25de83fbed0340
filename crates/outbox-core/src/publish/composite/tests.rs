use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as Atomic};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use super::*;
use crate::error::{OutboxError, Result, Transience};
use crate::id::{Entropy, MessageId};
use crate::memory::MemoryDeliveryLog;
use crate::message::Message;
use crate::ports::{DeliveryLog, Publisher};
use crate::publish::fakes::{Sink, Trouble, id, kinds, message};
use crate::time::{Timestamp, TokioClock};

const SECOND: Duration = Duration::from_secs(1);

/// A delivery log that can be made to fail.
#[derive(Default)]
struct Log {
    records: MemoryDeliveryLog,
    broken: AtomicBool,
}

impl Log {
    fn check(&self) -> Result<()> {
        if !self.broken.load(Atomic::SeqCst) {
            return Ok(());
        }
        Err(OutboxError::Backend {
            backend: "test",
            operation: "log",
            transience: Transience::Transient,
            source: "broken".into(),
        })
    }
}

#[async_trait]
impl DeliveryLog for Log {
    async fn delivered(&self, ids: &[MessageId], destination: &str) -> Result<Vec<bool>> {
        self.check()?;
        self.records.delivered(ids, destination).await
    }

    async fn record(&self, ids: &[MessageId], destination: &str, now: Timestamp) -> Result<()> {
        self.check()?;
        self.records.record(ids, destination, now).await
    }

    async fn purge(&self, before: Timestamp, max: usize) -> Result<u64> {
        self.check()?;
        self.records.purge(before, max).await
    }
}

/// A composite over the sinks `a` and `b`.
struct Bench {
    a: Arc<Sink>,
    b: Arc<Sink>,
    log: Arc<Log>,
    composite: CompositePublisher,
}

fn bench(strategy: Strategy) -> Bench {
    let (a, b, log) = (Sink::new("a"), Sink::new("b"), Arc::new(Log::default()));
    let composite = composite(strategy, [&a, &b], &log);
    Bench {
        a,
        b,
        log,
        composite,
    }
}

fn composite(strategy: Strategy, sinks: [&Arc<Sink>; 2], log: &Arc<Log>) -> CompositePublisher {
    let to = |sink: &Arc<Sink>| Destination::new(Arc::clone(sink) as Arc<dyn Publisher>);
    let destinations = sinks.map(to).into();
    let config = CompositeConfig {
        strategy,
        ..CompositeConfig::default()
    };
    let log = Arc::clone(log) as Arc<dyn DeliveryLog>;
    let composite = CompositePublisher::new("both", destinations, log, config).unwrap();
    let clock = Arc::new(TokioClock::starting_at(Timestamp::EPOCH));
    composite.driven_by(clock, Entropy::seeded(1))
}

fn unkeyed<const N: usize>(numbers: [u8; N]) -> [Message; N] {
    numbers.map(|n| message(n, "t", None))
}

#[tokio::test(start_paused = true)]
async fn all_sends_a_retry_only_to_the_destination_that_lacks_the_message() {
    let Bench {
        a, b, composite, ..
    } = bench(Strategy::All);
    b.trouble(2, Trouble::Fail);
    let messages = unkeyed([1, 2]);
    let answers = composite.publish(&messages).await;
    assert_eq!(kinds(&answers), ["ok", "failed"]);
    let text = answers[1].as_ref().unwrap_err().to_string();
    assert!(text.contains("b: ") && !text.contains("a: "), "{text}");
    assert_eq!(kinds(&composite.publish(&messages[1..]).await), ["ok"]);
    assert_eq!((a.taken(), b.taken()), (vec![1, 2], vec![1, 2]));
}

#[tokio::test(start_paused = true)]
async fn another_relay_knows_from_the_log_who_has_the_message() {
    let Bench {
        a,
        b,
        log,
        composite: first,
    } = bench(Strategy::All);
    b.trouble(1, Trouble::Unavailable(None));
    let messages = unkeyed([1]);
    assert_eq!(kinds(&first.publish(&messages).await), ["unavailable"]);
    let second = composite(Strategy::All, [&a, &b], &log);
    assert_eq!(kinds(&second.publish(&messages).await), ["ok"]);
    assert_eq!((a.taken(), b.taken()), (vec![1], vec![1]));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_one_destination_hangs_has_recorded_the_other() {
    let Bench {
        a, b, composite, ..
    } = bench(Strategy::All);
    b.trouble(1, Trouble::Hang);
    let messages = unkeyed([1]);
    assert!(timeout(SECOND, composite.publish(&messages)).await.is_err());
    assert_eq!(kinds(&composite.publish(&messages).await), ["ok"]);
    assert_eq!((a.taken(), b.taken()), (vec![1], vec![1]));
}

#[tokio::test(start_paused = true)]
async fn each_destination_keeps_the_order_of_a_key_over_failures_and_retries() {
    let Bench {
        a, b, composite, ..
    } = bench(Strategy::All);
    b.trouble(1, Trouble::Fail);
    let messages = [1, 2].map(|n| message(n, "t", Some("k")));
    assert_eq!(
        kinds(&composite.publish(&messages).await),
        ["failed", "held-back"]
    );
    assert_eq!(kinds(&composite.publish(&messages).await), ["ok", "ok"]);
    assert_eq!((a.taken(), b.taken()), (vec![1, 2], vec![1, 2]));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_once_every_other_destination_has_the_message() {
    let Bench {
        a, b, composite, ..
    } = bench(Strategy::All);
    a.trouble(1, Trouble::Refuse).trouble(1, Trouble::Refuse);
    b.trouble(1, Trouble::Unavailable(Some(SECOND)));
    let messages = unkeyed([1]);
    assert_eq!(kinds(&composite.publish(&messages).await), ["unavailable"]);
    assert_eq!(kinds(&composite.publish(&messages).await), ["refused"]);
    assert_eq!(b.taken(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_read_makes_messages_wait_and_sends_nothing() {
    let Bench {
        a,
        b,
        log,
        composite,
    } = bench(Strategy::All);
    log.broken.store(true, Atomic::SeqCst);
    let answers = composite.publish(&unkeyed([1])).await;
    assert_eq!(kinds(&answers), ["unavailable"]);
    assert_eq!((a.calls(), b.calls()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn any_needs_one_destination_and_tries_each_once() {
    let Bench {
        a, b, composite, ..
    } = bench(Strategy::Any);
    a.trouble(1, Trouble::Fail).trouble(2, Trouble::Fail);
    b.trouble(2, Trouble::Refuse);
    let answers = composite.publish(&unkeyed([1, 2, 3])).await;
    assert_eq!(kinds(&answers), ["ok", "failed", "ok"]);
    assert_eq!((a.taken(), b.taken()), (vec![3], vec![1, 3]));
    assert_eq!((a.calls(), b.calls()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn any_waits_for_the_destination_that_is_back_first() {
    let Bench {
        a, b, composite, ..
    } = bench(Strategy::Any);
    a.trouble(1, Trouble::Unavailable(Some(60 * SECOND)));
    b.trouble(1, Trouble::Unavailable(Some(2 * SECOND)));
    let answers = composite.publish(&unkeyed([1])).await;
    let Err(crate::PublishError::Unavailable { retry_after, .. }) = &answers[0] else {
        panic!("{answers:?}")
    };
    assert_eq!(*retry_after, Some(2 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_destination_holds_up_a_call_for_the_budget_and_then_not_at_all() {
    let Bench {
        a, b, composite, ..
    } = bench(Strategy::Any);
    a.trouble(1, Trouble::Hang);
    let started = Instant::now();
    assert_eq!(kinds(&composite.publish(&unkeyed([1])).await), ["ok"]);
    assert_eq!(started.elapsed(), CompositeConfig::default().budget);
    assert_eq!(kinds(&composite.publish(&unkeyed([2])).await), ["ok"]);
    assert_eq!(
        started.elapsed(),
        CompositeConfig::default().budget,
        "its breaker is open"
    );
    assert_eq!((a.taken(), b.taken()), (vec![], vec![1, 2]));
}

#[tokio::test(start_paused = true)]
async fn only_the_primary_decides_and_secondaries_get_what_it_has() {
    let Bench {
        a, b, composite, ..
    } = bench(Strategy::Primary);
    a.trouble(1, Trouble::Fail).trouble(2, Trouble::Refuse);
    b.trouble(3, Trouble::Refuse);
    let answers = composite.publish(&unkeyed([1, 2, 3, 4])).await;
    assert_eq!(kinds(&answers), ["failed", "refused", "ok", "ok"]);
    assert_eq!((a.taken(), b.taken()), (vec![3, 4], vec![4]));
}

#[tokio::test(start_paused = true)]
async fn a_secondary_is_retried_within_the_budget() {
    let Bench { b, composite, .. } = bench(Strategy::Primary);
    b.trouble(1, Trouble::Fail).trouble(1, Trouble::Fail);
    let messages = [1, 2].map(|n| message(n, "t", Some("k")));
    assert_eq!(kinds(&composite.publish(&messages).await), ["ok", "ok"]);
    assert_eq!(b.taken(), [1, 2]);
    assert_eq!(b.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_dead_secondary_is_left_alone_until_its_breaker_lets_a_trial_pass() {
    let Bench {
        a, b, composite, ..
    } = bench(Strategy::Primary);
    b.trouble(1, Trouble::Unavailable(Some(10 * SECOND)));
    for n in 1..=3 {
        assert_eq!(kinds(&composite.publish(&unkeyed([n])).await), ["ok"]);
    }
    assert_eq!((b.calls(), b.taken()), (1, vec![]));
    tokio::time::advance(10 * SECOND).await;
    assert_eq!(kinds(&composite.publish(&unkeyed([4])).await), ["ok"]);
    assert_eq!((a.taken(), b.taken()), (vec![1, 2, 3, 4], vec![4]));
}

#[tokio::test(start_paused = true)]
async fn a_primary_that_has_the_message_is_not_sent_it_again_for_a_secondarys_sake() {
    let Bench {
        a, b, composite, ..
    } = bench(Strategy::Primary);
    b.trouble(1, Trouble::Hang);
    let messages = unkeyed([1]);
    assert!(
        timeout(SECOND / 2, composite.publish(&messages))
            .await
            .is_err()
    );
    assert_eq!(kinds(&composite.publish(&messages).await), ["ok"]);
    assert_eq!((a.taken(), b.taken()), (vec![1], vec![1]));
}

#[tokio::test(start_paused = true)]
async fn the_log_forgets_deliveries_past_their_retention() {
    let Bench { log, composite, .. } = bench(Strategy::All);
    composite.publish(&unkeyed([1])).await;
    tokio::time::advance(CompositeConfig::default().retention + SECOND).await;
    let many: Vec<Message> = (0..500).map(|_| message(2, "t", None)).collect();
    composite.publish(&many).await;
    assert_eq!(
        log.delivered(&[id(1), id(2)], "a").await.unwrap(),
        [false, true]
    );
}

#[tokio::test(start_paused = true)]
async fn a_trial_costs_one_message_and_its_success_lets_the_others_follow() {
    let Bench { b, composite, .. } = bench(Strategy::Primary);
    let away = Trouble::Unavailable(Some(SECOND));
    b.trouble(1, away).trouble(3, away);
    composite.publish(&unkeyed([1])).await;
    tokio::time::advance(SECOND).await;
    composite.publish(&unkeyed([3, 4, 5])).await;
    assert_eq!((b.calls(), b.taken()), (2, vec![]));
    tokio::time::advance(2 * SECOND).await;
    composite.publish(&unkeyed([6, 7, 8])).await;
    assert_eq!((b.calls(), b.taken()), (4, vec![6, 7, 8]));
}

#[test]
fn destinations_need_names_of_their_own_and_settings_their_ranges() {
    let to = |name| Destination::new(Sink::new(name) as Arc<dyn Publisher>);
    let problems = |destinations, config| {
        let log = Arc::new(Log::default());
        match CompositePublisher::new("c", destinations, log, config) {
            Err(error) => error.problems.len(),
            Ok(_) => 0,
        }
    };
    let sound = CompositeConfig::default();
    assert_eq!(problems(vec![], sound), 1);
    assert_eq!(problems(vec![to("a"), to("a"), to("")], sound), 2);
    assert_eq!(problems(vec![to("a"), to("a").named("b")], sound), 0);
    let budget = Duration::ZERO;
    assert_eq!(
        problems(vec![to("a")], CompositeConfig { budget, ..sound }),
        1
    );
}
