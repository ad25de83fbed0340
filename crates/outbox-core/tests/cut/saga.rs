//! A step of a saga, dead at each of its awaits in turn.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::HandlerError;
use outbox_core::error::{BoxError, Result};
use outbox_core::id::WorkerId;
use outbox_core::memory::{MemoryOutbox, MemoryTransaction};
use outbox_core::message::NewMessage;
use outbox_core::ports::{DequeueRequest, Flush, Queue, UnitOfWork};
use outbox_core::produce::{Saga, SagaError, SagaStep, StepOutcome};
use outbox_core::testing::cut;

use crate::paced::Pace;
use crate::{MOST, Scene};

/// A memory outbox as a place to work in, with awaits to die at.
struct Desk {
    outbox: MemoryOutbox,
    pace: Arc<Pace>,
}

#[async_trait]
impl UnitOfWork for Desk {
    type Open = MemoryTransaction;
    type Tx = MemoryTransaction;

    async fn begin(&self) -> Result<MemoryTransaction> {
        self.pace.pause().await;
        self.outbox.begin().await
    }

    fn connection<'a>(&self, open: &'a mut MemoryTransaction) -> &'a mut MemoryTransaction {
        open
    }

    async fn commit(&self, open: MemoryTransaction) -> Result<()> {
        self.pace.pause().await;
        self.outbox.commit(open).await?;
        self.pace.pause().await;
        Ok(())
    }

    async fn rollback(&self, open: MemoryTransaction) -> Result<(), BoxError> {
        self.pace.pause().await;
        self.outbox.rollback(open).await
    }
}

/// Runs a step that goes well or fails for good, dead after `polls`, and then again; the topics of
/// what it appended, and whether the first run ended.
async fn step(polls: usize, goes_well: bool) -> (Vec<String>, bool) {
    let scene = Scene::new();
    let desk = Desk {
        outbox: scene.world.outbox.clone(),
        pace: Arc::clone(&scene.pace),
    };
    let saga = Saga::new(Arc::new(desk), Arc::new(scene.world.outbox.clone()))
        .driven_by(Arc::clone(&scene.world.clock), scene.world.entropy.clone());
    let step =
        SagaStep::new("order-7", "pay").compensate_with(vec![NewMessage::new("undone", "7")]);
    let execute = async || {
        let work = async |_: &mut MemoryTransaction| {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            if goes_well {
                Ok(vec![NewMessage::new("done", "7")])
            } else {
                Err(HandlerError::reject("no money"))
            }
        };
        saga.execute(&step, work).await
    };
    let ended = cut(execute(), polls).await.is_some();
    match (goes_well, execute().await) {
        (true, Ok(StepOutcome::Done(_) | StepOutcome::DoneBefore(_)))
        | (false, Err(SagaError::Compensated { .. } | SagaError::CompensatedBefore(_))) => {}
        (_, other) => panic!("after {polls}: {other:?}"),
    }
    let relay = scene.relay();
    relay.flush().await.unwrap();
    let request = DequeueRequest {
        owner: WorkerId::from_bytes([1; 16]),
        max: 10,
        lease: Duration::from_secs(3),
        wait: Duration::ZERO,
        now: scene.world.clock.now(),
    };
    let sent = scene.memory_queue.dequeue(&request).await.unwrap();
    let topics = sent.deliveries.into_iter();
    (
        topics
            .map(|delivery| delivery.message.topic.clone())
            .collect(),
        ended,
    )
}

#[tokio::test(start_paused = true)]
async fn a_saga_step_that_dies_at_any_await_is_decided_once() {
    for (goes_well, topic) in [(true, "done"), (false, "undone")] {
        for polls in 0..MOST {
            let (topics, ended) = step(polls, goes_well).await;
            assert_eq!(topics, [topic], "after {polls}");
            if ended {
                assert!(polls >= 8, "it ended after {polls} polls");
                break;
            }
        }
    }
}
