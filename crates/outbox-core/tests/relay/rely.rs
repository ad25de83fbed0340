//! Calls that rely on those under way.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::PublishError;
use outbox_core::id::MessageId;
use outbox_core::message::{Message, NewMessage};
use outbox_core::policy::{Backoff, RetryPolicy};
use outbox_core::ports::{Flush, Publisher};
use outbox_core::relay::{Relay, RelayConfig};
use outbox_core::status::Ordering;

use crate::fixture::{SECOND, World, keyed, numbers};
use crate::spy::Spy;

/// What becomes of a call.
#[derive(Clone, Copy)]
enum Fate {
    Taken,
    /// All of it is taken, and the answer says otherwise.
    TakenUnheard,
    /// So many of its messages are taken.
    Cut(usize),
    /// Nothing is taken, which is told before anything is waited for.
    Refused,
    Hung,
}

/// What becomes of a call with these messages and this number, from 0 on.
type Plan = dyn Fn(&[Message], usize) -> Fate + Send + Sync;

/// A destination that takes a call while its last one is under way, knows again what it has, and
/// takes nothing behind what it has not.
struct Line {
    ordering: Ordering,
    depth: usize,
    fate: Box<Plan>,
    /// Whether the last call that came to its turn was taken whole.
    whole: tokio::sync::Mutex<bool>,
    calls: AtomicUsize,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    taken: Mutex<Vec<Message>>,
}

struct UnderWay<'a>(&'a Line);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, SeqCst);
    }
}

impl Line {
    fn new(fate: impl Fn(&[Message], usize) -> Fate + Send + Sync + 'static) -> Self {
        Self {
            ordering: Ordering::PerKey,
            depth: 2,
            fate: Box::new(fate),
            whole: tokio::sync::Mutex::default(),
            calls: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            taken: Mutex::default(),
        }
    }

    fn take(&self, messages: &[Message]) {
        let mut taken = self.taken.lock().unwrap();
        let known: HashSet<MessageId> = taken.iter().map(|message| message.id).collect();
        let new = messages
            .iter()
            .filter(|message| !known.contains(&message.id));
        taken.extend(new.cloned());
    }

    fn texts(&self) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        let text = |message: &Message| String::from_utf8(message.payload.to_vec()).unwrap();
        taken.iter().map(text).collect()
    }
}

fn away() -> Result<(), PublishError> {
    Err(PublishError::unavailable("away"))
}

#[async_trait]
impl Publisher for Line {
    fn name(&self) -> &'static str {
        "line"
    }

    fn ordering(&self) -> Ordering {
        self.ordering
    }

    fn pipeline_depth(&self) -> usize {
        self.depth
    }

    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let number = self.calls.fetch_add(1, SeqCst);
        let before = self.under_way.fetch_add(1, SeqCst);
        let _under_way = UnderWay(self);
        self.most_under_way.fetch_max(before + 1, SeqCst);
        let fate = (self.fate)(messages, number);
        if matches!(fate, Fate::Refused) {
            return messages.iter().map(|_| away()).collect();
        }
        let mut whole = self.whole.lock().await;
        if before > 0 && !*whole {
            return messages.iter().map(|_| away()).collect();
        }
        *whole = false;
        let count = messages.len();
        let (taken, heard) = match fate {
            Fate::Taken => (count, count),
            Fate::TakenUnheard => (count, 0),
            Fate::Refused => (0, 0),
            Fate::Cut(taken) => (taken.min(count), taken.min(count)),
            Fate::Hung => std::future::pending().await,
        };
        self.take(&messages[..taken]);
        *whole = taken == count;
        drop(whole);
        tokio::time::sleep(Duration::from_millis(10)).await;
        let answers = (0..count).map(|n| if n < heard { Ok(()) } else { away() });
        answers.collect()
    }
}

const CEILING: usize = 100;

fn config() -> RelayConfig {
    RelayConfig {
        batch_ceiling: CEILING,
        publish_timeout: SECOND,
        retry: RetryPolicy {
            max_attempts: 3,
            backoff: Backoff::default(),
        },
        ..RelayConfig::default()
    }
}

/// Publishes what there is; the attempt numbers that were handed out.
async fn drain(world: &World, line: &Arc<Line>) -> Vec<u32> {
    drain_as(world, line, 0, config()).await
}

/// As [`drain`], with claims whose answers are on their way for some milliseconds.
async fn drain_as(
    world: &World,
    line: &Arc<Line>,
    claims_take: u64,
    config: RelayConfig,
) -> Vec<u32> {
    let outbox = Spy::new(world.outbox.clone());
    let attempts = outbox.attempts.clone();
    outbox.claims_take.store(claims_take, SeqCst);
    let publisher: Arc<dyn Publisher> = Arc::clone(line) as _;
    let relay = Relay::new(Arc::new(outbox), publisher, config)
        .unwrap()
        .driven_by(Arc::clone(&world.clock), world.entropy.clone());
    let drained = relay.flush().await.unwrap();
    assert!(drained.is_complete(), "{drained:?}");
    attempts.lock().unwrap().clone()
}

fn of_one_key(count: usize) -> Vec<NewMessage> {
    (0..count).map(|n| keyed("a", n)).collect()
}

#[tokio::test(start_paused = true)]
async fn as_many_calls_are_under_way_as_a_publisher_takes() {
    for (depth, ordering, concurrency, most) in [
        (1, Ordering::PerKey, 1, 1),
        (2, Ordering::PerKey, 1, 2),
        (2, Ordering::Commit, 1, 2),
        (3, Ordering::Commit, 1, 3),
        (2, Ordering::None, 1, 1),
        (3, Ordering::Commit, 2, 2),
    ] {
        let world = World::new(1);
        let mut line = Line::new(|_, _| Fate::Taken);
        (line.depth, line.ordering) = (depth, ordering);
        let line = Arc::new(line);
        let messages: Vec<_> = (0..2_000).map(|n| keyed(&format!("{n}"), n)).collect();
        world.append(&messages).await;
        let config = RelayConfig {
            concurrency,
            ..config()
        };
        drain_as(&world, &line, 0, config).await;
        let case = format!("{depth} {ordering:?} {concurrency}");
        assert_eq!(line.texts(), numbers(0..2_000), "{case}");
        assert_eq!(line.most_under_way.load(SeqCst), most, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_full_batch_goes_while_another_is_under_way() {
    let world = World::new(2);
    let line = Arc::new(Line::new(|_, _| Fate::Taken));
    world.append(&of_one_key(2 * CEILING - 1)).await;
    drain(&world, &line).await;
    assert_eq!(line.texts(), numbers(0..2 * CEILING - 1));
    assert_eq!(line.most_under_way.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_keeps_its_order_where_a_call_is_cut_short() {
    for cut in [0, 1, 60] {
        let world = World::new(3);
        let line = Arc::new(Line::new(move |_, call| match call {
            2 => Fate::Cut(cut),
            _ => Fate::Taken,
        }));
        world.append(&of_one_key(1_000)).await;
        let attempts = drain(&world, &line).await;
        assert_eq!(line.texts(), numbers(0..1_000));
        assert_eq!(line.most_under_way.load(SeqCst), 2);
        assert!(attempts.iter().all(|attempt| *attempt == 1), "{cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_keeps_its_order_where_a_call_fails_as_soon_as_it_is_made() {
    let world = World::new(6);
    let line = Arc::new(Line::new(|_, call| match call {
        1 => Fate::Refused,
        _ => Fate::Taken,
    }));
    let messages = of_one_key(1_000);
    let (first, others) = messages.split_at(CEILING + 50);
    world.append(first).await;
    // When the first call comes back, 50 messages wait, and the answer to a claim of more is there.
    let later = async {
        tokio::time::sleep(Duration::from_millis(7)).await;
        world.append(others).await;
    };
    tokio::join!(drain_as(&world, &line, 5, config()), later);
    assert_eq!(line.texts(), numbers(0..1_000));
}

#[tokio::test(start_paused = true)]
async fn a_key_keeps_its_order_where_an_answer_is_lost() {
    let world = World::new(4);
    let line = Arc::new(Line::new(|_, call| match call {
        2 | 5 => Fate::TakenUnheard,
        _ => Fate::Taken,
    }));
    world.append(&of_one_key(1_000)).await;
    drain(&world, &line).await;
    assert_eq!(line.texts(), numbers(0..1_000));
    assert_eq!(line.most_under_way.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_hangs_its_calls_is_soon_alone_in_them() {
    let world = World::new(5);
    let line = Arc::new(Line::new(|messages, _| {
        if messages.iter().any(|message| message.payload == "250") {
            Fate::Hung
        } else {
            Fate::Taken
        }
    }));
    let messages: Vec<_> = (0..1_000).map(|n| keyed(&format!("{n}"), n)).collect();
    world.append(&messages).await;
    let attempts = drain(&world, &line).await;
    let mut texts: Vec<usize> = line
        .texts()
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    texts.sort_unstable();
    let others: Vec<usize> = (0..1_000).filter(|n| *n != 250).collect();
    assert_eq!(texts, others);
    assert_eq!(line.most_under_way.load(SeqCst), 2);
    // Each time that it was alone counts for it, and none for the others.
    let mut again: Vec<u32> = attempts
        .into_iter()
        .filter(|attempt| *attempt > 1)
        .collect();
    again.dedup();
    assert_eq!(again, [2, 3]);
    assert_eq!(world.unsent().await, 0);
}
