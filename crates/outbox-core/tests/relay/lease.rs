use crate::fixture::Patient;
use crate::fixture::SECOND;
use crate::fixture::SetBack;
use crate::fixture::Sink;
use crate::fixture::World;
use crate::fixture::keyed;
use crate::fixture::text;
use crate::spy::Spy;
use outbox_core::PublishError;
use outbox_core::ports::{ClaimRequest, Flush, Outbox};
use outbox_core::relay::{Relay, RelayConfig};
use outbox_core::signal::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_standby_relay_takes_over_within_five_seconds_of_a_crash() {
    let world = World::new(15);
    let sink = Arc::new(Sink::healthy());
    world
        .append(
            &(0..2_000)
                .map(|n| keyed(&(n % 3).to_string(), n))
                .collect::<Vec<_>>(),
        )
        .await;
    let mut slow = Sink::healthy();
    slow.latency = Box::new(|_| Duration::from_millis(300));
    let slow = Arc::new(slow);
    let victim = world.relay(
        &slow,
        RelayConfig {
            batch_ceiling: 100,
            ..RelayConfig::default()
        },
    );
    let standby = world.relay(&sink, RelayConfig::default());
    let shutdown = Shutdown::new();
    let crash = async {
        // Dropping the future is the crash: nothing is released.
        let _ = tokio::time::timeout(SECOND, victim.run(&shutdown)).await;
        let crashed = tokio::time::Instant::now();
        while world.unsent().await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(crashed.elapsed() < 5 * SECOND, "{:?}", crashed.elapsed());
        shutdown.trigger();
    };
    let later = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        standby.run(&shutdown).await
    };
    let (report, ()) = tokio::join!(later, crash);
    assert!(report.unwrap().tally.done > 0);
    for key in 0..3 {
        let mut order = slow.texts_of_key(&key.to_string());
        order.extend(sink.texts_of_key(&key.to_string()));
        let mut first: Vec<usize> = Vec::new();
        for number in order.iter().map(|text| text.parse().unwrap()) {
            if !first.contains(&number) {
                first.push(number);
            }
        }
        assert!(first.is_sorted(), "first sights are in order");
        assert_eq!(first.len(), (0..2_000).skip(key).step_by(3).count());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_keeps_its_lease_by_heartbeat() {
    let world = World::new(16);
    let mut slow = Sink::healthy();
    slow.latency = Box::new(|_| 9 * SECOND);
    let slow = Arc::new(slow);
    let rival = Arc::new(Sink::healthy());
    world.append(&(0..10).map(text).collect::<Vec<_>>()).await;
    let first = world.relay(&slow, RelayConfig::default());
    let second = world.relay(&rival, RelayConfig::default());
    let shutdown = Shutdown::new();
    let stop = async {
        tokio::time::sleep(20 * SECOND).await;
        shutdown.trigger();
    };
    let later = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        second.run(&shutdown).await.unwrap()
    };
    let (first, second, ()) = tokio::join!(first.run(&shutdown), later, stop);
    assert_eq!(first.unwrap().tally.done, 10);
    assert_eq!(second.tally.done, 0, "live work is never taken away");
    assert!(rival.texts().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_gives_back_what_was_not_sent() {
    let world = World::new(17);
    let mut slow = Sink::healthy();
    slow.latency = Box::new(|_| SECOND);
    let slow = Arc::new(slow);
    world
        .append(&(0..1_000).map(text).collect::<Vec<_>>())
        .await;
    let config = RelayConfig {
        batch_ceiling: 100,
        target_latency: 2 * SECOND,
        ..RelayConfig::default()
    };
    let relay = world.relay(&slow, config);
    let shutdown = Shutdown::new();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), stop);
    let report = report.unwrap();
    assert_eq!(
        (report.tally.done, report.finished, report.abandoned),
        (200, 100, 0)
    );
    assert!(report.released >= 100, "{report:?}");
    let claim = ClaimRequest {
        owner: outbox_core::id::WorkerId::new(&world.entropy),
        max: 1,
        lease: SECOND,
        now: world.clock.now(),
        paused_topics: Vec::new(),
    };
    let next = world.outbox.claim(&claim).await.unwrap();
    assert_eq!(
        next.leased[0].message.payload, "200",
        "the lease is free at once"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_longer_than_its_grace() {
    let world = World::new(18);
    let mut hung = Sink::healthy();
    hung.latency = Box::new(|_| 100_000 * SECOND);
    world.append(&[text(0)]).await;
    let config = RelayConfig {
        publish_timeout: 1_000 * SECOND,
        ..RelayConfig::default()
    };
    let relay = world.relay(&Arc::new(hung), config);
    let shutdown = Shutdown::new();
    let started = tokio::time::Instant::now();
    let stop = async {
        tokio::time::sleep(SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), stop);
    assert_eq!(report.unwrap().abandoned, 1);
    assert!(started.elapsed() < 12 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_its_sink_calls_stale_looks_at_its_lease_and_spends_no_attempt() {
    let world = World::new(33);
    let sink = Arc::new(Sink::new(|_, seen| match seen {
        1 => Err(PublishError::Fenced { seen: 9 }),
        _ => Ok(()),
    }));
    world.append(&(0..5).map(text).collect::<Vec<_>>()).await;
    let mut outbox = Spy::new(world.outbox.clone());
    // Settling is slow, so that only looking tells.
    outbox.settling_takes = SECOND;
    let extended = Arc::clone(&outbox.extended);
    let config = RelayConfig {
        lease: 1_000 * SECOND,
        flush_patience: 100 * SECOND,
        ..RelayConfig::default()
    };
    let relay = Relay::new(Arc::new(outbox), sink.clone(), config).unwrap();
    let relay = relay.driven_by(world.clock.clone(), world.entropy.clone());
    let report = relay.flush().await.unwrap();
    assert_eq!((report.tally.done, report.tally.retried), (5, 0));
    assert_eq!(extended.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_relay_keeps_its_lease_for_a_moment_and_gives_it_back() {
    let world = World::new(19);
    world.append(&[text(0)]).await;
    let relay = world.relay(&Arc::new(Sink::healthy()), RelayConfig::default());
    let shutdown = Shutdown::new();
    let rival = outbox_core::id::WorkerId::new(&world.entropy);
    let is_held = async || {
        let claim = ClaimRequest {
            owner: rival,
            max: 1,
            lease: SECOND,
            now: world.clock.now(),
            paused_topics: Vec::new(),
        };
        let report = world.outbox.claim(&claim).await.unwrap();
        assert!(report.leased.is_empty());
        report.next_due.is_some()
    };
    let watch = async {
        let mut held = Vec::new();
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            held.push(is_held().await);
        }
        assert_eq!(held, [true, true, false, false], "a sixth of 3 s");
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), watch);
    assert_eq!(report.unwrap().tally.done, 1);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_answered_after_its_lease_has_ended_sends_nothing() {
    let world = World::new(21);
    world.append(&[text(0)]).await;
    let outbox = Spy::new(world.outbox.clone());
    let claims_take = Arc::clone(&outbox.claims_take);
    let (sink, rival_sink) = (Arc::new(Sink::healthy()), Arc::new(Sink::healthy()));
    let relay = Relay::new(Arc::new(outbox), sink.clone(), RelayConfig::default()).unwrap();
    let relay = relay.driven_by(world.clock.clone(), world.entropy.clone());
    let rival = world.relay(&rival_sink, RelayConfig::default());
    let shutdown = Shutdown::new();
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        rival.run(&shutdown).await
    };
    let trouble = async {
        // Claimed under the lease of the first message, which ends after 3 s; answered after 3.2 s.
        tokio::time::sleep(Duration::from_millis(400)).await;
        claims_take.store(2_800, SeqCst);
        world.append(&[text(1)]).await;
        tokio::time::sleep(10 * SECOND).await;
        shutdown.trigger();
    };
    let (first, second, ()) = tokio::join!(relay.run(&shutdown), late, trouble);
    assert_eq!(
        (first.unwrap().tally.done, sink.texts()),
        (1, vec!["0".to_owned()])
    );
    assert_eq!(
        (second.unwrap().tally.done, rival_sink.texts()),
        (1, vec!["1".to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_answered_after_its_lease_was_found_lost_sends_nothing() {
    let world = World::new(22);
    world.append(&[text(0)]).await;
    let outbox = Spy::new(world.outbox.clone());
    let claims_take = Arc::clone(&outbox.claims_take);
    let mut slow = Sink::healthy();
    slow.latency = Box::new(|_| 5 * SECOND);
    let slow = Arc::new(slow);
    let config = RelayConfig {
        concurrency: 2,
        ..RelayConfig::default()
    };
    let relay = Relay::new(Arc::new(outbox), slow.clone(), config).unwrap();
    let relay = relay.driven_by(world.clock.clone(), world.entropy.clone());
    let shutdown = Shutdown::new();
    let trouble = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        claims_take.store(1_500, SeqCst);
        world.append(&[text(1)]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        // A relay whose clock is ahead takes the lease, which the first one finds out after a second.
        let claim = ClaimRequest {
            owner: outbox_core::id::WorkerId::new(&world.entropy),
            max: 10,
            lease: 100 * SECOND,
            now: world.clock.now() + 10 * SECOND,
            paused_topics: Vec::new(),
        };
        let taken = world.outbox.claim(&claim).await.unwrap();
        assert_eq!(taken.leased.len(), 2);
        tokio::time::sleep(6 * SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), trouble);
    assert_eq!(report.unwrap().tally.done, 0);
    assert_eq!(slow.texts(), ["0"], "which was on its way before");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_to_be_given_back_waits_while_the_store_rests() {
    let world = World::new(20);
    world.append(&[text(0)]).await;
    let outbox = Spy::new(world.outbox.clone());
    let failing = Arc::clone(&outbox.claims_fail);
    let sink = Arc::new(Sink::healthy());
    let relay = Relay::new(Arc::new(outbox), sink.clone(), RelayConfig::default()).unwrap();
    let clock = Patient::new(&world.clock);
    let relay = relay.driven_by(clock, world.entropy.clone());
    let shutdown = Shutdown::new();
    let trouble = async {
        // The store fails, and rests for 10 ms, shortly before the lease's half second is over.
        tokio::time::sleep(Duration::from_millis(495)).await;
        failing.store(true, SeqCst);
        world.append(&[text(1)]).await;
        tokio::time::sleep(SECOND).await;
        failing.store(false, SeqCst);
        tokio::time::sleep(10 * SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), trouble);
    assert_eq!(report.unwrap().tally.done, 2);
    assert_eq!(sink.texts(), ["0", "1"]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_extend_the_lease_is_not_asked_without_end() {
    let world = World::new(23);
    world.append(&[text(0), text(1)]).await;
    let outbox = Spy::new(world.outbox.clone());
    outbox.extends_fail.store(true, SeqCst);
    let extended = Arc::clone(&outbox.extended);
    let mut slow = Sink::healthy();
    slow.latency = Box::new(|_| 6 * SECOND);
    let slow = Arc::new(slow);
    // The second message waits for the first one, beyond the lease of 3 s.
    let config = RelayConfig {
        batch_floor: 1,
        batch_ceiling: 1,
        ..RelayConfig::default()
    };
    let relay = Relay::new(Arc::new(outbox), slow.clone(), config).unwrap();
    let clock = Patient::new(&world.clock);
    let relay = relay.driven_by(clock, world.entropy.clone());
    let shutdown = Shutdown::new();
    let stop = async {
        tokio::time::sleep(5 * SECOND).await;
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), stop);
    report.unwrap();
    assert_eq!(slow.texts(), ["0"], "nothing is sent without a lease");
    let asked = extended.load(SeqCst);
    assert!((10..40).contains(&asked), "{asked} times in 5 s");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_extended_although_the_clock_is_set_back() {
    let world = World::new(24);
    world.append(&[text(0)]).await;
    let outbox = Spy::new(world.outbox.clone());
    let extended = Arc::clone(&outbox.extended);
    let mut slow = Sink::healthy();
    slow.latency = Box::new(|_| 9 * SECOND);
    let slow = Arc::new(slow);
    let relay = Relay::new(Arc::new(outbox), slow, RelayConfig::default()).unwrap();
    let clock = SetBack::new(&world.clock);
    let relay = relay.driven_by(clock.clone(), world.entropy.clone());
    let shutdown = Shutdown::new();
    let trouble = async {
        tokio::time::sleep(SECOND * 5 / 2).await;
        let before = extended.load(SeqCst);
        clock.seconds.store(3_600, SeqCst);
        tokio::time::sleep(5 * SECOND).await;
        let after = extended.load(SeqCst);
        assert!(after >= before + 4, "{before} and {after}");
        shutdown.trigger();
    };
    let (report, ()) = tokio::join!(relay.run(&shutdown), trouble);
    report.unwrap();
}
