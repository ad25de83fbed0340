use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::timeout;

use crate::error::{OutboxError, Panicked, error_text};
use crate::ports::{Health, HealthCheck, Outbox, Queue};
use crate::status::ERROR_TEXT_BYTES;
use crate::time::Timestamp;

/// How all parts are, for a health endpoint: as JSON,
/// `{"status":"degraded","reason":"…","checks":[{"name":"outbox","status":"healthy"}]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[doc(alias = "GetStatus")]
#[doc(alias = "GetProcessorStatus")]
pub struct HealthReport {
    /// The worst of all checks; healthy where there are none.
    #[serde(flatten)]
    pub overall: Health,
    /// Each check's answer, in their order.
    pub checks: Vec<CheckReport>,
}

/// The answer of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The check's name.
    pub name: String,
    /// How the part is.
    #[serde(flatten)]
    pub health: Health,
}

impl HealthReport {
    /// Asks all of `checks` at the same time how they are at `now`. One that does not answer within
    /// `limit`, or that panics, counts as unhealthy.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn gather(checks: &[Arc<dyn HealthCheck>], now: Timestamp, limit: Duration) -> Self {
        let answers = checks.iter().map(|check| ask(check.as_ref(), now, limit));
        let checks = join_all(answers.collect::<Vec<_>>()).await;
        let overall = checks.iter().fold(Health::Healthy, |worst, check| {
            worst.worst(named(&check.name, &check.health))
        });
        Self { overall, checks }
    }
}

async fn ask(check: &dyn HealthCheck, now: Timestamp, limit: Duration) -> CheckReport {
    let answer = AssertUnwindSafe(async { check.check(now).await }).catch_unwind();
    let health = match timeout(limit, answer).await {
        Ok(Ok(health)) => health,
        Ok(Err(panic)) => Health::Unhealthy(Panicked::from(panic).to_string()),
        Err(_) => Health::Unhealthy(format!("no answer within {limit:?}")),
    };
    CheckReport {
        name: check.name().to_owned(),
        health,
    }
}

fn named(name: &str, health: &Health) -> Health {
    match health {
        Health::Healthy => Health::Healthy,
        Health::Degraded(reason) => Health::Degraded(format!("{name}: {reason}")),
        Health::Unhealthy(reason) => Health::Unhealthy(format!("{name}: {reason}")),
    }
}

/// When an outbox or a queue that works counts as degraded all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthThresholds {
    /// The greatest age of what waits; 5 min by default.
    pub max_age: Duration,
    /// The most messages or entries that wait; 100,000 by default.
    pub max_depth: u64,
    /// The most messages or entries in quarantine; none by default.
    pub max_quarantined: u64,
}

impl Default for HealthThresholds {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(300),
            max_depth: 100_000,
            max_quarantined: 0,
        }
    }
}

/// What the thresholds are held against.
struct Load {
    depth: u64,
    quarantined: u64,
    age: Duration,
}

impl HealthThresholds {
    fn judge(&self, load: &Load) -> Health {
        let mut reasons = Vec::new();
        if load.depth > self.max_depth {
            reasons.push(format!("{} wait, over {}", load.depth, self.max_depth));
        }
        if load.age > self.max_age {
            reasons.push(format!(
                "the oldest waits for {:?}, over {:?}",
                load.age, self.max_age
            ));
        }
        if load.quarantined > self.max_quarantined {
            let limit = self.max_quarantined;
            reasons.push(format!("{} in quarantine, over {limit}", load.quarantined));
        }
        match reasons.is_empty() {
            true => Health::Healthy,
            false => Health::Degraded(reasons.join("; ")),
        }
    }
}

fn unreachable(error: &OutboxError) -> Health {
    Health::Unhealthy(error_text(error, ERROR_TEXT_BYTES))
}

/// Whether an outbox can be reached, and whether its backlog is within its thresholds.
pub struct OutboxHealth {
    name: String,
    outbox: Arc<dyn Outbox>,
    thresholds: HealthThresholds,
}

impl OutboxHealth {
    /// A check of `outbox`, told under `name`.
    pub fn new(
        name: impl Into<String>,
        outbox: Arc<dyn Outbox>,
        thresholds: HealthThresholds,
    ) -> Self {
        Self {
            name: name.into(),
            outbox,
            thresholds,
        }
    }
}

#[async_trait]
impl HealthCheck for OutboxHealth {
    fn name(&self) -> &str {
        &self.name
    }

    async fn check(&self, now: Timestamp) -> Health {
        match self.outbox.stats(now).await {
            Ok(stats) => self.thresholds.judge(&Load {
                depth: stats.unsent(),
                quarantined: stats.quarantined,
                age: stats
                    .oldest
                    .map_or(Duration::ZERO, |oldest| now.since(oldest)),
            }),
            Err(error) => unreachable(&error),
        }
    }
}

/// Whether a queue can be reached, and whether its backlog is within its thresholds.
pub struct QueueHealth {
    queue: Arc<dyn Queue>,
    thresholds: HealthThresholds,
}

impl QueueHealth {
    /// A check of `queue`, told under the queue's name.
    #[must_use]
    pub fn new(queue: Arc<dyn Queue>, thresholds: HealthThresholds) -> Self {
        Self { queue, thresholds }
    }
}

#[async_trait]
impl HealthCheck for QueueHealth {
    fn name(&self) -> &str {
        self.queue.name()
    }

    async fn check(&self, now: Timestamp) -> Health {
        match self.queue.stats(now).await {
            Ok(stats) => self.thresholds.judge(&Load {
                depth: stats.depth(),
                quarantined: stats.quarantined,
                age: stats
                    .oldest
                    .map_or(Duration::ZERO, |oldest| now.since(oldest)),
            }),
            Err(error) => unreachable(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MessageId;
    use crate::memory::{MemoryOutbox, MemoryQueue, MemoryQueueConfig};
    use crate::message::{Message, NewMessage};
    use crate::time::{Clock, ManualClock, SystemClock};

    const LIMIT: Duration = Duration::from_secs(1);

    /// A part that answers as it is told to.
    enum Part {
        Is(&'static str, Health),
        Hangs,
        Panics,
    }

    #[async_trait]
    impl HealthCheck for Part {
        fn name(&self) -> &str {
            match self {
                Part::Is(name, _) => name,
                Part::Hangs => "hangs",
                Part::Panics => "panics",
            }
        }

        async fn check(&self, _: Timestamp) -> Health {
            match self {
                Part::Is(_, health) => health.clone(),
                Part::Hangs => std::future::pending().await,
                Part::Panics => panic!("nobody is well"),
            }
        }
    }

    async fn gather(parts: Vec<Part>) -> HealthReport {
        let checks = parts
            .into_iter()
            .map(|part| Arc::new(part) as Arc<dyn HealthCheck>);
        HealthReport::gather(&checks.collect::<Vec<_>>(), Timestamp::EPOCH, LIMIT).await
    }

    #[tokio::test]
    async fn the_whole_is_as_well_as_its_worst_part() {
        let tired = Health::Degraded("tired".to_owned());
        let report = gather(vec![Part::Is("a", Health::Healthy), Part::Is("b", tired)]).await;
        assert_eq!(report.overall, Health::Degraded("b: tired".to_owned()));
        assert_eq!(gather(vec![]).await.overall, Health::Healthy);
    }

    #[tokio::test(start_paused = true)]
    async fn parts_that_hang_or_panic_are_unhealthy_and_hide_no_other() {
        let report = gather(vec![
            Part::Hangs,
            Part::Panics,
            Part::Is("well", Health::Healthy),
        ])
        .await;
        let healths: Vec<_> = report
            .checks
            .into_iter()
            .map(|check| check.health)
            .collect();
        let unhealthy = |reason: &str| Health::Unhealthy(reason.to_owned());
        assert_eq!(
            healths,
            [
                unhealthy("no answer within 1s"),
                unhealthy("panicked: nobody is well"),
                Health::Healthy,
            ]
        );
    }

    #[tokio::test]
    async fn a_report_is_json_for_an_endpoint() {
        let report = gather(vec![Part::Is("a", Health::Unhealthy("gone".to_owned()))]).await;
        let json = serde_json::to_value(&report).unwrap();
        let expected = serde_json::json!({
            "status": "unhealthy", "reason": "a: gone",
            "checks": [{ "name": "a", "status": "unhealthy", "reason": "gone" }],
        });
        assert_eq!(json, expected);
    }

    #[tokio::test]
    async fn an_outbox_whose_backlog_is_old_or_long_is_degraded() {
        let outbox = Arc::new(MemoryOutbox::default());
        let thresholds = HealthThresholds {
            max_depth: 1,
            ..HealthThresholds::default()
        };
        let check = OutboxHealth::new("outbox", Arc::clone(&outbox) as Arc<dyn Outbox>, thresholds);
        let now = SystemClock.now();
        assert_eq!(check.check(now).await, Health::Healthy);
        let two = [NewMessage::new("t", "1"), NewMessage::new("t", "2")];
        outbox.append(&two).await.unwrap();
        let long = Health::Degraded("2 wait, over 1".to_owned());
        assert_eq!(check.check(now).await, long);
        let Health::Degraded(old) = check.check(now + Duration::from_secs(900)).await else {
            panic!("not degraded")
        };
        assert!(
            old.contains("the oldest waits for") && old.contains("over 300s"),
            "{old}"
        );
    }

    #[tokio::test]
    async fn a_queue_with_quarantined_entries_is_degraded() {
        let clock = Arc::new(ManualClock::at(Timestamp::EPOCH));
        let queue = MemoryQueue::new(MemoryQueueConfig::default(), clock);
        let id = MessageId::from_bytes([1; 16]);
        let message = Message::appended(&NewMessage::new("t", "1"), id, Timestamp::EPOCH);
        let check = QueueHealth::new(Arc::new(queue.clone()), HealthThresholds::default());
        assert_eq!(check.name(), "memory");
        assert!(queue.enqueue(&[message]).await[0].is_ok());
        assert_eq!(check.check(Timestamp::EPOCH).await, Health::Healthy);
        assert!(queue.corrupt(id));
        queue.dequeue(&dequeue()).await.unwrap();
        let reason = "1 in quarantine, over 0".to_owned();
        assert_eq!(
            check.check(Timestamp::EPOCH).await,
            Health::Degraded(reason)
        );
    }

    fn dequeue() -> crate::ports::DequeueRequest {
        crate::ports::DequeueRequest {
            owner: crate::id::WorkerId::from_bytes([1; 16]),
            max: 1,
            lease: LIMIT,
            wait: Duration::ZERO,
            now: Timestamp::EPOCH,
        }
    }

    #[test]
    fn a_part_that_cannot_be_reached_is_unhealthy() {
        let health = unreachable(&OutboxError::Closed);
        assert_eq!(health, Health::Unhealthy("closed".to_owned()));
    }
}
