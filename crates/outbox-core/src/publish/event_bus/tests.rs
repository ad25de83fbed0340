use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;
use crate::error::PublishError;
use crate::message::Message;
use crate::ports::Publisher;
use crate::publish::fakes::{kinds, message, number};

fn bus() -> EventBus {
    EventBus::new("bus")
}

/// Subscribes a handler that counts its calls and answers with `answer`.
fn count(
    bus: &EventBus,
    name: &str,
    answer: impl Fn(usize) -> Result<(), PublishError> + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    bus.on(name, Selector::everything(), move |_| {
        let answer = answer(counted.fetch_add(1, Ordering::SeqCst));
        async { answer }
    });
    calls
}

#[tokio::test]
async fn subscribers_hear_what_they_selected_and_nothing_else() {
    let bus = bus();
    let mut orders = bus.subscribe("orders", Selector::topic("orders"), 8);
    let mut all = bus.subscribe("all", Selector::kind("unspecified"), 8);
    let messages = [message(1, "orders", None), message(2, "bills", None)];
    assert_eq!(kinds(&bus.publish(&messages).await), ["ok", "ok"]);
    bus.unsubscribe("orders");
    bus.unsubscribe("all");
    assert_eq!(orders.next().await.as_ref().map(number), Some(1));
    assert_eq!(orders.next().await, None);
    assert_eq!(all.next().await.as_ref().map(number), Some(1));
    assert_eq!(all.next().await.as_ref().map(number), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_full_channel_answers_unavailable_and_drops_nothing() {
    let bus = bus();
    let mut slow = bus.subscribe("slow", Selector::everything(), 1);
    let messages = [message(1, "t", None), message(2, "t", None)];
    let answers = bus.publish(&messages).await;
    assert_eq!(kinds(&answers), ["ok", "unavailable"]);
    let text = answers[1].as_ref().unwrap_err().to_string();
    assert!(text.contains("slow"), "{text}");
    assert_eq!(slow.next().await.as_ref().map(number), Some(1));
    assert_eq!(kinds(&bus.publish(&messages[1..]).await), ["ok"]);
    assert_eq!(slow.next().await.as_ref().map(number), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_room_once_and_not_for_each_message() {
    let bus = bus();
    let _stuck = bus.subscribe("stuck", Selector::everything(), 1);
    let messages: Vec<Message> = (0..200).map(|n| message(n, "t", None)).collect();
    let started = tokio::time::Instant::now();
    assert_eq!(
        kinds(&bus.publish(&messages).await)[1..],
        ["unavailable"; 199]
    );
    assert_eq!(started.elapsed(), EventBusConfig::default().timeout);
}

#[tokio::test]
async fn messages_wait_for_a_subscriber_that_is_gone_until_it_is_back_or_let_go() {
    let bus = bus();
    drop(bus.subscribe("gone", Selector::everything(), 8));
    let messages = [message(1, "t", None)];
    assert_eq!(kinds(&bus.publish(&messages).await), ["unavailable"]);
    let mut back = bus.subscribe("gone", Selector::everything(), 8);
    assert_eq!(kinds(&bus.publish(&messages).await), ["ok"]);
    assert_eq!(back.next().await.as_ref().map(number), Some(1));
    assert!(bus.unsubscribe("gone"));
    assert!(!bus.unsubscribe("gone"));
}

#[tokio::test]
async fn a_message_that_nobody_hears_fails_unless_that_is_accepted() {
    let messages = [message(1, "t", None)];
    let answers = bus().publish(&messages).await;
    let text = answers[0].as_ref().unwrap_err().to_string();
    assert!(text.contains("nobody listens to topic `t`"), "{text}");
    let accept = EventBusConfig {
        unheard: Unheard::Accept,
        ..EventBusConfig::default()
    };
    let bus = bus().config(accept);
    assert_eq!(kinds(&bus.publish(&messages).await), ["ok"]);
}

#[tokio::test]
async fn a_handlers_own_error_is_told() {
    let bus = bus();
    count(&bus, "picky", |_| Err(PublishError::refused("not mine")));
    let answers = bus.publish(&[message(1, "t", None)]).await;
    let text = answers[0].as_ref().unwrap_err().to_string();
    assert_eq!(text, "message refused: picky: message refused: not mine");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_or_hangs_fails_its_message_alone() {
    let bus = bus();
    bus.on(
        "odd",
        Selector::everything(),
        async |message: Message| match number(&message) {
            1 => panic!("one is too few"),
            2 => std::future::pending().await,
            _ => Ok(()),
        },
    );
    let messages = [1, 2, 3].map(|n| message(n, "t", None));
    let answers = bus.publish(&messages).await;
    assert_eq!(kinds(&answers), ["failed", "failed", "ok"]);
    let text = answers[0].as_ref().unwrap_err().to_string();
    assert!(text.contains("panicked: one is too few"), "{text}");
}

#[tokio::test]
async fn a_key_stops_at_its_first_failure_and_others_go_on() {
    let bus = bus();
    bus.on(
        "odd",
        Selector::everything(),
        async |message: Message| match number(&message) {
            1 => Err(PublishError::failed("once")),
            _ => Ok(()),
        },
    );
    let messages = [
        message(1, "t", Some("k")),
        message(2, "t", Some("k")),
        message(3, "t", Some("other")),
        message(4, "t", None),
    ];
    let answers = bus.publish(&messages).await;
    assert_eq!(kinds(&answers), ["failed", "held-back", "ok", "ok"]);
}

#[tokio::test]
async fn a_retry_reaches_only_the_subscribers_that_missed_the_message() {
    let bus = bus();
    let well = count(&bus, "well", |_| Ok(()));
    let ill = count(&bus, "ill", |call| match call {
        0 => Err(PublishError::failed("first call")),
        _ => Ok(()),
    });
    let messages = [message(1, "t", None)];
    assert_eq!(kinds(&bus.publish(&messages).await), ["failed"]);
    assert_eq!(kinds(&bus.publish(&messages).await), ["ok"]);
    assert_eq!(
        (well.load(Ordering::SeqCst), ill.load(Ordering::SeqCst)),
        (1, 2)
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_remembers_who_has_the_message() {
    let bus = bus();
    let quick = count(&bus, "quick", |_| Ok(()));
    bus.on("slow", Selector::everything(), |_| std::future::pending());
    let messages = [message(1, "t", None)];
    let second = Duration::from_secs(1);
    assert!(
        tokio::time::timeout(second, bus.publish(&messages))
            .await
            .is_err()
    );
    bus.on("slow", Selector::everything(), async |_| Ok(()));
    assert_eq!(kinds(&bus.publish(&messages).await), ["ok"]);
    assert_eq!(quick.load(Ordering::SeqCst), 1);
}

#[test]
fn each_topic_is_a_destination_of_its_own() {
    let orders = message(1, "orders", None);
    assert_eq!(bus().destination(&orders), "bus/orders");
}
