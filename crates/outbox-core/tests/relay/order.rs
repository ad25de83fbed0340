use crate::fixture::Sink;
use crate::fixture::World;
use crate::fixture::keyed;
use crate::fixture::numbers;
use crate::fixture::text;
use crate::flaky;
use crate::spy::Spy;
use outbox_core::PublishError;
use outbox_core::error::FULL_RETRY;
use outbox_core::message::NewMessage;
use outbox_core::ports::Flush;
use outbox_core::relay::{Relay, RelayConfig};
use outbox_core::status::OnFailure;
use outbox_core::status::Ordering;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_failing_message_blocks_its_key_and_no_other() {
    let world = World::new(5);
    let sink = Arc::new(Sink::new(|message, seen| {
        if message.payload == "0" && seen < 4 {
            Err(PublishError::failed("x"))
        } else {
            Ok(())
        }
    }));
    let mut messages: Vec<_> = (0..700).map(|n| keyed("a", n)).collect();
    messages.extend((700..1_400).map(|n| keyed("b", n)));
    messages.extend((1_400..2_100).map(text));
    world.append(&messages).await;
    let config = RelayConfig {
        batch_ceiling: 100,
        ..RelayConfig::default()
    };
    assert!(
        world
            .relay(&sink, config)
            .flush()
            .await
            .unwrap()
            .is_complete()
    );
    assert_eq!(sink.texts_of_key("a"), numbers(0..700));
    assert_eq!(sink.texts_of_key("b"), numbers(700..1_400));
    assert_eq!(sink.texts().first().unwrap(), "700", "others did not wait");
    assert_eq!(sink.texts().len(), 2_100);
}

#[tokio::test(start_paused = true)]
async fn skipping_lets_the_key_go_on() {
    let world = World::new(6);
    let sink = Arc::new(Sink::new(|message, seen| {
        if message.payload == "0" && seen < 3 {
            Err(PublishError::failed("x"))
        } else {
            Ok(())
        }
    }));
    world
        .append(&(0..3).map(|n| keyed("a", n)).collect::<Vec<_>>())
        .await;
    let config = RelayConfig {
        on_failure: OnFailure::SkipMessage,
        ..RelayConfig::default()
    };
    assert!(
        world
            .relay(&sink, config)
            .flush()
            .await
            .unwrap()
            .is_complete()
    );
    assert_eq!(sink.texts(), ["1", "2", "0"]);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_without_order_gets_one_message_of_a_key_at_a_time() {
    let world = World::new(7);
    let mut sink = Sink::new(flaky(1));
    sink.order = Ordering::None;
    let sink = Arc::new(sink);
    let messages: Vec<_> = (0..60).map(|n| keyed(["a", "b", "c"][n % 3], n)).collect();
    world.append(&messages).await;
    let config = RelayConfig {
        concurrency: 4,
        ..RelayConfig::default()
    };
    assert!(
        world
            .relay(&sink, config)
            .flush()
            .await
            .unwrap()
            .is_complete()
    );
    for (place, key) in ["a", "b", "c"].into_iter().enumerate() {
        let expected: Vec<_> = (0..60)
            .skip(place)
            .step_by(3)
            .map(|n: usize| n.to_string())
            .collect();
        assert_eq!(sink.texts_of_key(key), expected);
    }
    assert!(sink.calls.lock().unwrap().iter().all(|size| *size <= 3));
}

#[tokio::test(start_paused = true)]
async fn one_key_keeps_its_order_across_destinations() {
    let world = World::new(12);
    let mut sink = Sink::new(|message, seen| {
        if message.payload.len() == 2 && seen < 2 {
            Err(PublishError::failed("x"))
        } else {
            Ok(())
        }
    });
    sink.routed = true;
    sink.latency =
        Box::new(|messages| Duration::from_millis(if messages[0].topic == "t0" { 50 } else { 1 }));
    let sink = Arc::new(sink);
    let message =
        |n: usize| NewMessage::new(format!("t{}", n % 3), n.to_string()).ordering_key("k");
    world
        .append(&(0..200).map(message).collect::<Vec<_>>())
        .await;
    assert!(
        world
            .relay(&sink, RelayConfig::default())
            .flush()
            .await
            .unwrap()
            .is_complete()
    );
    assert_eq!(sink.texts(), numbers(0..200));
}

#[tokio::test(start_paused = true)]
async fn a_message_on_its_way_to_quarantine_holds_its_key_back_until_it_is_there() {
    let world = World::new(6);
    let sink = Arc::new(Sink::new(|message, _| match &message.payload[..] {
        b"0" => Err(PublishError::refused("never")),
        _ => Ok(()),
    }));
    world
        .append(&[keyed("a", 0), keyed("a", 1), keyed("b", 2)])
        .await;
    let config = RelayConfig {
        batch_ceiling: 1,
        batch_floor: 1,
        on_failure: OnFailure::ParkKey,
        flush_patience: Duration::from_secs(5),
        ..RelayConfig::default()
    };
    let flushed = world.relay(&sink, config).flush().await.unwrap();
    assert_eq!(flushed.unsent, 1, "the parked one");
    assert_eq!(sink.texts(), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_went_back_goes_on_although_settling_is_slower_than_its_destination() {
    let world = World::new(31);
    // Full for a moment, and open again before that is written down.
    let sink = Arc::new(Sink::new(|message, seen| {
        if seen == 1 && message.sequence.0 == 1 {
            return Err(PublishError::full("no room"));
        }
        Ok(())
    }));
    let messages: Vec<_> = (0..40).map(|number| keyed("k", number)).collect();
    world.append(&messages).await;
    let mut outbox = Spy::new(world.outbox.clone());
    outbox.settling_takes = 3 * FULL_RETRY;
    let config = RelayConfig {
        batch_ceiling: 10,
        batch_floor: 1,
        ..RelayConfig::default()
    };
    let relay = Relay::new(Arc::new(outbox), sink.clone(), config).unwrap();
    let relay = relay.driven_by(world.clock.clone(), world.entropy.clone());
    let report = relay.flush().await.unwrap();
    assert_eq!((report.unsent, report.tally.done), (0, 40));
    let expected: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    assert_eq!(sink.texts(), expected);
}
