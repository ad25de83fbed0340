use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::fixture::World;
use async_trait::async_trait;
use outbox_core::HandlerError;
use outbox_core::consume::{Consumer, ConsumerConfig, Worker, WorkerConfig};
use outbox_core::delivery::Delivery;
use outbox_core::id::MessageId;
use outbox_core::memory::{MemoryQueue, MemoryQueueConfig};
use outbox_core::message::{Message, NewMessage};
use outbox_core::ports::{Handled, Handler, Queue};
use outbox_core::report::StopReport;
use outbox_core::signal::Shutdown;

pub(crate) type Script = dyn Fn(&Delivery) -> Result<(), HandlerError> + Send + Sync;

/// A handler that records what it did.
#[derive(Clone)]
pub(crate) struct Recorder(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) script: Box<Script>,
    pub(crate) latency: Duration,
    pub(crate) handled: Mutex<Vec<String>>,
    pub(crate) attempts: Mutex<HashMap<String, Vec<u32>>>,
    pub(crate) now: AtomicUsize,
    pub(crate) most: AtomicUsize,
}

impl Recorder {
    pub(crate) fn new(
        latency: Duration,
        script: impl Fn(&Delivery) -> Result<(), HandlerError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            script: Box::new(script),
            latency,
            handled: Mutex::default(),
            attempts: Mutex::default(),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn healthy() -> Self {
        Self::new(Duration::from_millis(1), |_| Ok(()))
    }

    pub(crate) fn handled(&self) -> Vec<String> {
        self.0.handled.lock().unwrap().clone()
    }
}

pub(crate) fn text_of(message: &Message) -> String {
    String::from_utf8(message.payload.to_vec()).unwrap()
}

#[async_trait]
impl Handler for Recorder {
    async fn handle(&self, delivery: &Delivery) -> Result<Handled, HandlerError> {
        let text = text_of(&delivery.message);
        let inner = &self.0;
        inner
            .attempts
            .lock()
            .unwrap()
            .entry(text.clone())
            .or_default()
            .push(delivery.attempt);
        let running = inner.now.fetch_add(1, SeqCst) + 1;
        inner.most.fetch_max(running, SeqCst);
        tokio::time::sleep(inner.latency).await;
        inner.now.fetch_sub(1, SeqCst);
        (inner.script)(delivery)?;
        inner.handled.lock().unwrap().push(text);
        Ok(Handled::Done)
    }
}

pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) queue: MemoryQueue,
}

impl Stage {
    pub(crate) fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let queue = MemoryQueue::new(MemoryQueueConfig::default(), Arc::clone(&world.clock));
        Self { world, queue }
    }

    pub(crate) async fn enqueue(&self, messages: &[NewMessage]) -> Vec<Message> {
        let now = self.world.clock.now();
        let made: Vec<_> = messages
            .iter()
            .map(|new| Message::appended(new, MessageId::new(now, &self.world.entropy), now))
            .collect();
        for result in self.queue.enqueue(&made).await {
            result.unwrap();
        }
        made
    }

    pub(crate) fn worker(&self, consumer: Consumer, config: WorkerConfig) -> Worker {
        Worker::new(Arc::new(self.queue.clone()), consumer, config)
            .unwrap()
            .driven_by(Arc::clone(&self.world.clock), self.world.entropy.clone())
    }

    pub(crate) async fn drain(&self, consumer: Consumer) -> StopReport {
        let worker = self.worker(consumer, WorkerConfig::default());
        worker.run_until_empty(&Shutdown::new()).await.unwrap()
    }
}

pub(crate) fn plain(recorder: &Recorder) -> Consumer {
    Consumer::new(recorder.clone(), ConsumerConfig::default())
}
