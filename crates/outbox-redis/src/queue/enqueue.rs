use std::sync::atomic::Ordering;

use outbox_core::error::{PublishError, Result};
use outbox_core::message::Message;
use outbox_core::ports::Enqueued;

use super::{RedisQueue, micros, number, scripts};
use crate::batch::{first_batch, frames};
use crate::error::{Failed, Fault, unavailable};
use crate::link::Arg;

/// Why a message did not fit.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the queue has reached its high-water mark of {high_water} unsettled entries")]
struct Full {
    high_water: usize,
}

impl RedisQueue {
    pub(super) async fn add(&self, messages: &[Message]) -> Vec<Result<Enqueued, PublishError>> {
        let mut results = Vec::with_capacity(messages.len());
        while results.len() < messages.len() {
            let rest = &messages[results.len()..];
            let batch = first_batch(rest);
            match self.add_batch(batch).await {
                Ok(answers) => results.extend(answers),
                Err(fault) => {
                    let failed = Failed::new("enqueue", self.0.store.address(), fault);
                    results.extend(unavailable(failed, rest.len()));
                }
            }
            // Nothing is added behind what was refused: it may be of the same key.
            if results.last().is_some_and(Result::is_err) {
                let left = messages.len() - results.len();
                results.extend(std::iter::repeat_with(|| self.refuse()).take(left));
            }
        }
        results
    }

    async fn add_batch(
        &self,
        batch: &[Message],
    ) -> Result<Vec<Result<Enqueued, PublishError>>, Fault> {
        let config = &self.0.config;
        let half = micros(config.dedup_window / 2);
        let mut args = Vec::with_capacity(3 + batch.len());
        args.extend([number(config.high_water), half, self.stays()]);
        args.extend(frames(batch).into_iter().map(Arg::Bytes));
        let reply = self.run(&scripts::ENQUEUE, None, args).await?;
        let answers = reply.bytes()?;
        if answers.len() != batch.len() {
            return Err(Fault::Reply {
                wanted: "one answer for each message",
                found: format!("{} for {}", answers.len(), batch.len()),
            });
        }
        Ok(answers.iter().map(|answer| self.read(*answer)).collect())
    }

    fn read(&self, answer: u8) -> Result<Enqueued, PublishError> {
        match answer {
            b'a' => Ok(Enqueued::Added),
            b'k' => Ok(Enqueued::Duplicate),
            _ => self.refuse(),
        }
    }

    fn refuse(&self) -> Result<Enqueued, PublishError> {
        self.0.full.store(true, Ordering::Release);
        let high_water = self.0.config.high_water;
        Err(PublishError::full(Full { high_water }))
    }
}
