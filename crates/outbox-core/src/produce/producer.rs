use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tracing::Instrument;

use crate::error::{ConfigError, OutboxError, Result};
use crate::id::Entropy;
use crate::message::NewMessage;
use crate::observe::names;
use crate::policy::RetryPolicy;
use crate::ports::{Clock, Flush, FlushReport, Outbox};
use crate::report::AppendReport;
use crate::time::SystemClock;

/// How a [`Producer`] works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerConfig {
    /// The most messages that are persisted in one transaction; 500 by default, from 1 to 100,000.
    #[doc(alias = "TASK_SUBMIT_BATCH_SIZE")]
    pub batch_size: usize,
    /// How often and after which delays a batch is appended again when the outbox is busy or away.
    pub retry: RetryPolicy,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            batch_size: 500,
            retry: RetryPolicy::default(),
        }
    }
}

impl ProducerConfig {
    /// Checks every setting against its range.
    ///
    /// # Errors
    /// All settings that are out of their range, at once.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut problems = ConfigError::default();
        if !(1..=100_000).contains(&self.batch_size) {
            problems.add("batch_size", "must be from 1 to 100,000");
        }
        if self.retry.max_attempts < 1 {
            problems.add("retry.max_attempts", "must be at least 1");
        }
        problems.into_result()
    }
}

/// What a producer persisted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerReport {
    /// Messages that were added.
    pub added: u64,
    /// Messages that were there already, by their idempotency key or by an id that they brought.
    pub duplicates: u64,
    /// Appends that were repeated because the outbox was busy or away.
    pub retries: u64,
}

impl ProducerReport {
    /// Adds `other` to this report.
    pub fn add(&mut self, other: Self) {
        self.added += other.added;
        self.duplicates += other.duplicates;
        self.retries += other.retries;
    }
}

/// Persisting stopped before its end.
#[derive(Debug, thiserror::Error)]
#[error("{} of the messages are not known to be persisted: {source}", rest.len())]
pub struct PersistError {
    /// What the outbox answered last.
    pub source: OutboxError,
    /// What was persisted before.
    pub report: ProducerReport,
    /// The messages that are not known to be persisted, each with its id: persisting them again
    /// adds none of them twice.
    pub rest: Vec<NewMessage>,
}

/// Persists tasks in an outbox first, and then flushes it to where they are to go.
///
/// What is persisted will be sent, by this run or, after a crash, by the next one.
///
/// ```no_run
/// # async fn example(outbox: std::sync::Arc<dyn outbox_core::ports::Outbox>,
/// #                  relay: std::sync::Arc<outbox_core::relay::Relay>,
/// #                  tasks: Vec<outbox_core::message::NewMessage>)
/// #                  -> Result<(), Box<dyn std::error::Error>> {
/// use outbox_core::produce::{Producer, ProducerConfig};
///
/// let producer = Producer::new(outbox, relay, ProducerConfig::default())?;
/// let persisted = producer.persist(tasks).await?;
/// let flushed = producer.flush().await?;
/// assert!(flushed.is_complete(), "{} added, {} left", persisted.added, flushed.unsent);
/// # Ok(()) }
/// ```
#[doc(alias = "TaskProducerManager")]
pub struct Producer {
    outbox: Arc<dyn Outbox>,
    flush: Arc<dyn Flush>,
    clock: Arc<dyn Clock>,
    entropy: Entropy,
    config: ProducerConfig,
}

impl Producer {
    /// A producer on the system's clock and entropy, into `outbox`, which `flush` empties.
    ///
    /// # Errors
    /// [`OutboxError::Config`] with every setting that is out of its range.
    pub fn new(
        outbox: Arc<dyn Outbox>,
        flush: Arc<dyn Flush>,
        config: ProducerConfig,
    ) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            outbox,
            flush,
            clock: Arc::new(SystemClock),
            entropy: Entropy::from_system(),
            config,
        })
    }

    /// Replaces the clock and the source of ids and jitter, for tests and simulations.
    #[must_use]
    pub fn driven_by(mut self, clock: Arc<dyn Clock>, entropy: Entropy) -> Self {
        self.clock = clock;
        self.entropy = entropy;
        self
    }

    /// Appends `messages` in transactions of [`ProducerConfig::batch_size`], in their order.
    ///
    /// Every message gets its id before the first append, so that repeating an append whose outcome
    /// is unknown adds nothing twice.
    ///
    /// # Errors
    /// [`PersistError`] where an append failed for good or for the last time: it says what was
    /// persisted, and gives back the rest.
    ///
    /// # Cancel safety
    /// Batches that were appended stay. Give messages ids ([`NewMessage::identify`]) or idempotency
    /// keys of their own where a cancelled call is to be repeated.
    pub async fn persist(&self, messages: Vec<NewMessage>) -> Result<ProducerReport, PersistError> {
        let span = tracing::debug_span!(names::SPAN_PERSIST, messages = messages.len());
        self.persist_all(messages).instrument(span).await
    }

    async fn persist_all(&self, messages: Vec<NewMessage>) -> Result<ProducerReport, PersistError> {
        let made_here: Vec<bool> = messages
            .iter()
            .map(|message| message.id.is_none())
            .collect();
        let now = self.clock.now();
        let identify = |message: NewMessage| message.identify(now, &self.entropy);
        let mut messages: Vec<NewMessage> = messages.into_iter().map(identify).collect();
        let mut report = ProducerReport::default();
        let mut done = 0;
        while done < messages.len() {
            let end = messages.len().min(done + self.config.batch_size);
            match self.append(&messages[done..end], &mut report).await {
                Ok(appended) => {
                    let made_here = &made_here[done..end];
                    count(&messages[done..end], made_here, &appended, &mut report);
                    done = end;
                }
                Err(source) => {
                    let rest = messages.split_off(done);
                    return Err(PersistError {
                        source,
                        report,
                        rest,
                    });
                }
            }
        }
        Ok(report)
    }

    /// Appends one batch, again and again while that may help.
    async fn append(
        &self,
        batch: &[NewMessage],
        report: &mut ProducerReport,
    ) -> Result<AppendReport> {
        let mut attempt = 1;
        loop {
            let error = match self.outbox.append(batch).await {
                Ok(appended) => return Ok(appended),
                Err(error) => error,
            };
            let delay = self.config.retry.next_delay(attempt, None, &self.entropy);
            let (true, Some(delay)) = (error.is_transient(), delay) else {
                return Err(error);
            };
            tracing::warn!(attempt, ?delay, %error, "append failed and will be repeated");
            tokio::time::sleep(delay).await;
            attempt += 1;
            report.retries += 1;
        }
    }

    /// Sends what the outbox holds, from this run or an earlier one.
    ///
    /// # Errors
    /// As [`Flush::flush`]; what could not be sent stays in the outbox.
    ///
    /// # Cancel safety
    /// What was sent stays sent; the rest stays in the outbox.
    pub async fn flush(&self) -> Result<FlushReport> {
        let span = tracing::debug_span!(names::SPAN_FLUSH);
        self.flush.flush().instrument(span).await
    }
}

/// Counts what an append did. A message whose id was made here and is there already was added by an
/// earlier attempt of the same call, whose answer was lost.
fn count(
    batch: &[NewMessage],
    made_here: &[bool],
    appended: &AppendReport,
    report: &mut ProducerReport,
) {
    for ((message, made_here), appended) in batch.iter().zip(made_here).zip(&appended.messages) {
        let own = *made_here && message.id == Some(appended.id);
        if appended.duplicate && !own {
            report.duplicates += 1;
        } else {
            report.added += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::produce::fakes::{Fault, Store};
    use crate::report::Tally;
    use crate::time::{Timestamp, TokioClock};

    struct Nothing;

    #[async_trait]
    impl Flush for Nothing {
        async fn flush(&self) -> Result<FlushReport> {
            let tally = Tally::default();
            Ok(FlushReport { tally, unsent: 3 })
        }
    }

    fn producer(store: &Arc<Store>, batch_size: usize) -> Producer {
        let config = ProducerConfig {
            batch_size,
            ..ProducerConfig::default()
        };
        let clock = Arc::new(TokioClock::starting_at(Timestamp::EPOCH));
        let outbox = Arc::clone(store) as Arc<dyn Outbox>;
        let producer = Producer::new(outbox, Arc::new(Nothing), config).unwrap();
        producer.driven_by(clock, Entropy::seeded(1))
    }

    fn messages(count: usize) -> Vec<NewMessage> {
        (0..count)
            .map(|n| NewMessage::new("t", n.to_string()))
            .collect()
    }

    fn report(added: u64, duplicates: u64, retries: u64) -> ProducerReport {
        ProducerReport {
            added,
            duplicates,
            retries,
        }
    }

    #[tokio::test]
    async fn messages_are_persisted_in_batches_and_in_order() {
        let store = Store::new();
        let persisted = producer(&store, 2).persist(messages(5)).await.unwrap();
        assert_eq!(persisted, report(5, 0, 0));
        assert_eq!(store.payloads(), ["0", "1", "2", "3", "4"]);
        assert_eq!(store.appends(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_append_whose_answer_was_lost_is_repeated_and_adds_nothing_twice() {
        let store = Store::failing([Fault::Busy, Fault::AnswerLost, Fault::AnswerLost]);
        let persisted = producer(&store, 10).persist(messages(3)).await.unwrap();
        assert_eq!(persisted, report(3, 0, 3));
        assert_eq!(store.payloads(), ["0", "1", "2"]);
    }

    #[tokio::test]
    async fn what_was_there_before_counts_as_duplicate() {
        let store = Store::new();
        let producer = producer(&store, 10);
        let keyed = |n: &str| NewMessage::new("t", n.to_owned()).idempotency_key("k");
        let identified = NewMessage::new("t", "3").identify(Timestamp::EPOCH, &Entropy::seeded(9));
        let first = producer
            .persist(vec![keyed("1"), identified.clone()])
            .await
            .unwrap();
        assert_eq!(first, report(2, 0, 0));
        let again = producer
            .persist(vec![keyed("2"), identified])
            .await
            .unwrap();
        assert_eq!(again, report(0, 2, 0));
        assert_eq!(store.payloads(), ["1", "3"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_gives_back_what_is_not_persisted_so_that_it_can_be_repeated() {
        let store = Store::failing([Fault::None, Fault::Dead]);
        let producer = producer(&store, 2);
        let failed = producer.persist(messages(5)).await.unwrap_err();
        assert_eq!(failed.report, report(2, 0, 0));
        assert_eq!(failed.rest.len(), 3);
        assert!(!failed.source.is_transient());
        assert_eq!(
            producer.persist(failed.rest).await.unwrap(),
            report(3, 0, 0)
        );
        assert_eq!(store.payloads(), ["0", "1", "2", "3", "4"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outbox_that_stays_away_is_given_up_after_the_policys_attempts() {
        let store = Store::failing([Fault::Busy; 100]);
        let failed = producer(&store, 2).persist(messages(1)).await.unwrap_err();
        assert!(failed.source.is_transient());
        assert_eq!(failed.report.retries, 7);
        assert_eq!(store.appends(), 8);
    }

    #[tokio::test]
    async fn a_flush_is_the_flushers_report() {
        let flushed = producer(&Store::new(), 2).flush().await.unwrap();
        assert!(!flushed.is_complete());
    }

    #[test]
    fn settings_out_of_range_are_told() {
        let config = ProducerConfig {
            batch_size: 0,
            ..ProducerConfig::default()
        };
        assert!(Producer::new(Store::new(), Arc::new(Nothing), config).is_err());
    }
}
