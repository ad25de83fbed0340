use super::*;
use crate::id::WorkerId;
use crate::message::NewMessage;
use crate::time::TokioClock;

const SECOND: Duration = Duration::from_secs(1);

fn message(number: u8) -> Message {
    let id = MessageId::from_bytes([number; 16]);
    Message::appended(&NewMessage::new("t", vec![number]), id, Timestamp::EPOCH)
}

fn queue() -> (MemoryQueue, TokioClock) {
    let clock = TokioClock::starting_at(Timestamp::from_millis(1_000_000));
    let queue = MemoryQueue::new(MemoryQueueConfig::default(), Arc::new(clock));
    (queue, clock)
}

fn request(max: usize, wait: Duration, now: Timestamp) -> DequeueRequest {
    DequeueRequest {
        owner: WorkerId::from_bytes([1; 16]),
        max,
        lease: 30 * SECOND,
        wait,
        now,
    }
}

async fn delay(queue: &MemoryQueue, number: u8, due_at: Timestamp, now: Timestamp) {
    queue.enqueue(&[message(number)]).await;
    let report = queue.dequeue(&request(1, Duration::ZERO, now)).await;
    let settlement = DeliverySettlement {
        receipt: report.unwrap().deliveries[0].receipt,
        outcome: DeliveryOutcome::Delay { due_at },
    };
    let report = queue.settle(&[settlement], now).await.unwrap();
    assert_eq!(report.settled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_dequeue_returns_at_the_exact_due_time() {
    let (queue, clock) = queue();
    let start = clock.now();
    delay(&queue, 1, start + 3 * SECOND, start).await;
    let report = queue.dequeue(&request(1, 10 * SECOND, start)).await;
    assert_eq!(report.unwrap().deliveries.len(), 1);
    assert_eq!(clock.now(), start + 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_dequeue_waits_no_longer_than_it_was_asked_to() {
    let (queue, clock) = queue();
    let start = clock.now();
    delay(&queue, 1, start + 30 * SECOND, start).await;
    let report = queue.dequeue(&request(1, 10 * SECOND, start)).await;
    assert_eq!(report.unwrap().deliveries, []);
    assert_eq!(clock.now(), start + 10 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_lease_begins_when_the_wait_ends() {
    let (queue, clock) = queue();
    let start = clock.now();
    delay(&queue, 1, start + 5 * SECOND, start).await;
    let report = queue.dequeue(&request(1, 10 * SECOND, start)).await;
    assert_eq!(report.unwrap().deliveries.len(), 1);
    let mut asked = request(1, Duration::ZERO, start);
    asked.owner = WorkerId::from_bytes([2; 16]);
    let report = queue.dequeue(&asked).await.unwrap();
    assert_eq!(report.next_expiry, Some(start + 35 * SECOND));
}

#[tokio::test]
async fn a_lease_without_a_wait_begins_at_the_moment_that_the_caller_names() {
    let (queue, clock) = queue();
    let start = clock.now();
    // Often enough for the scheduler to come between any two lines.
    for _ in 0..20_000 {
        queue.enqueue(&[message(1)]).await;
        let taken = queue.dequeue(&request(1, Duration::ZERO, start)).await;
        let receipt = taken.unwrap().deliveries[0].receipt;
        let mut asked = request(1, Duration::ZERO, start);
        asked.owner = WorkerId::from_bytes([2; 16]);
        let report = queue.dequeue(&asked).await.unwrap();
        assert_eq!(report.next_expiry, Some(start + 30 * SECOND));
        let due_at = start;
        let outcome = DeliveryOutcome::Delay { due_at };
        let settlement = DeliverySettlement { receipt, outcome };
        assert_eq!(queue.settle(&[settlement], start).await.unwrap().settled, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_settlement_that_brings_an_entry_back_sooner_wakes_the_waiting() {
    let (queue, clock) = queue();
    let start = clock.now();
    queue.enqueue(&[message(1)]).await;
    let taken = queue.dequeue(&request(1, Duration::ZERO, start)).await;
    let settlement = DeliverySettlement {
        receipt: taken.unwrap().deliveries[0].receipt,
        outcome: DeliveryOutcome::Delay {
            due_at: start + 2 * SECOND,
        },
    };
    let asked = request(1, 10 * SECOND, start);
    let settle = async {
        tokio::time::sleep(SECOND).await;
        queue.settle(&[settlement], clock.now()).await
    };
    let (report, _) = tokio::join!(queue.dequeue(&asked), settle);
    assert_eq!(report.unwrap().deliveries.len(), 1);
    assert_eq!(clock.now(), start + 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_entry_comes_back_to_its_old_place() {
    let (queue, clock) = queue();
    let start = clock.now();
    delay(&queue, 1, start + SECOND, start).await;
    queue.enqueue(&[message(2)]).await;
    let asked = request(2, Duration::ZERO, start + SECOND);
    let deliveries = queue.dequeue(&asked).await.unwrap().deliveries;
    let ids: Vec<_> = deliveries.iter().map(|d| d.message.id).collect();
    assert_eq!(ids, [message(1).id, message(2).id]);
}
