use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::config::Scenario;
use super::handler::FOLLOWED;
use super::outbox::{POISON, SimOutbox};
use super::process::Process;
use super::publisher::topic;
use super::trouble::Trouble;
use crate::id::Entropy;
use crate::message::NewMessage;
use crate::ports::Outbox;
use crate::produce::{Producer, ProducerConfig};
use crate::relay::Relay;
use crate::time::{Clock, Timestamp};

/// One producer and the messages that it has to bring into the outbox, whatever happens to it.
pub(super) struct Source {
    pub(super) process: Arc<Process>,
    pub(super) outbox: SimOutbox,
    pub(super) relay: Arc<Relay>,
    pub(super) entropy: Entropy,
    pub(super) messages: Vec<NewMessage>,
    /// How long its last message may be waited for.
    pub(super) span: Duration,
}

/// Message number `number` of a world.
pub(super) fn message(
    number: usize,
    trouble: &Trouble,
    (config, now): (&Scenario, Timestamp),
) -> NewMessage {
    let mut message = NewMessage::new(
        topic(trouble.below(config.destinations)),
        format!("message {number}"),
    )
    .idempotency_key(format!("once {number}"));
    if trouble.below(5) > 0 {
        let key = trouble.below(config.keys as u64);
        message = message.ordering_key(format!("key-{key}"));
    }
    match trouble.below(25) {
        0 => message = message.header(POISON, "queue"),
        1 => message = message.header(POISON, "handler"),
        2..5 => message = message.header(FOLLOWED, "yes"),
        5..7 => message = message.due_at(now + trouble.up_to(Duration::from_secs(10))),
        _ => {}
    }
    message
}

impl Source {
    /// Appends everything, in life after life of the process.
    pub(super) async fn run(&self) {
        let mut done = 0;
        while done < self.messages.len() {
            let trouble = &self.outbox.trouble;
            let size = 1 + usize::try_from(trouble.below(4)).unwrap_or(0);
            let batch = &self.messages[done..self.messages.len().min(done + size)];
            match self.process.live(self.append(batch)).await {
                Some(true) => done += batch.len(),
                // It died, or does not know: the keys of its messages make a repetition harmless.
                Some(false) | None => sleep(Duration::from_millis(30)).await,
            }
            let pause = self.span * 2 * size as u32 / self.messages.len() as u32;
            sleep(trouble.up_to(pause)).await;
        }
    }

    /// Appends a batch; whether it is known to be committed.
    async fn append(&self, batch: &[NewMessage]) -> bool {
        match self.outbox.trouble.below(4) {
            0 => self.persist(batch).await,
            1 => self.outbox.append(batch).await.is_ok(),
            _ => self.transact(batch).await,
        }
    }

    /// As the shipped producer does it.
    async fn persist(&self, batch: &[NewMessage]) -> bool {
        let outbox: Arc<dyn Outbox> = Arc::new(self.outbox.clone());
        let producer = Producer::new(outbox, self.relay.clone(), ProducerConfig::default());
        let Ok(producer) = producer else { return false };
        let clock: Arc<dyn Clock> = self.process.clock.clone();
        let producer = producer.driven_by(clock, self.entropy.clone());
        producer.persist(batch.to_vec()).await.is_ok()
    }

    /// In a transaction of its own; now and then it begins one that it never commits.
    async fn transact(&self, batch: &[NewMessage]) -> bool {
        let trouble = &self.outbox.trouble;
        if trouble.below(5) == 0 {
            let never = [NewMessage::new(topic(0), "never committed").ordering_key("key-0")];
            let drafted = self.outbox.draft(&never).await;
            sleep(trouble.up_to(Duration::from_millis(50))).await;
            drop(drafted);
        }
        let Ok((open, report)) = self.outbox.draft(batch).await else {
            return false;
        };
        sleep(trouble.up_to(Duration::from_millis(20))).await;
        let committed = self.outbox.commit(open, (batch, &report), || {});
        committed.await.is_ok()
    }
}
