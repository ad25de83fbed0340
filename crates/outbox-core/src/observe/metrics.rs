use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use metrics::{
    Label, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::health::HealthReport;
use super::names::{self, MetricType};
use crate::error::PublishError;
use crate::ports::{DeliveryHook, Health};
use crate::report::{
    AppendReport, BatchReport, Fate, MessageReport, OutboxStats, QueueStats, Stage,
};
use crate::time::Timestamp;

/// Records what relays and workers do, with the `metrics` crate's global recorder.
///
/// ```no_run
/// use outbox_core::observe::MetricsHook;
/// use std::{sync::Arc, time::Duration};
///
/// # fn example(relay: outbox_core::relay::Relay) -> outbox_core::relay::Relay {
/// relay.hook(Arc::new(MetricsHook::new(Duration::from_secs(5))))
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[doc(alias = "OutboxMetrics")]
pub struct MetricsHook {
    sla: Duration,
}

impl MetricsHook {
    /// A hook for which messages should be published within `sla` of their creation.
    #[must_use]
    pub fn new(sla: Duration) -> Self {
        Self { sla }
    }

    fn published(&self, report: &BatchReport) {
        let destination = Label::new(names::DESTINATION, report.destination.clone());
        histogram!(names::RELAY_PROCESSING, vec![destination.clone()]).record(report.duration);
        for (topic, messages) in by_topic(report) {
            let labels = vec![
                destination.clone(),
                Label::new(names::TOPIC, topic.to_owned()),
            ];
            let in_time = |message: &&&MessageReport| message.age <= self.sla;
            let done = || messages.iter().filter(|message| message.fate == Fate::Done);
            count(names::EVENTS_PUBLISHED, done().count(), &labels);
            count(
                names::EVENTS_WITHIN_SLA,
                done().filter(in_time).count(),
                &labels,
            );
            let failed = messages
                .iter()
                .filter(|message| message.fate == Fate::Quarantined);
            count(names::EVENTS_FAILED, failed.count(), &labels);
            let ages = histogram!(names::EVENT_AGE, labels.clone());
            done().for_each(|message| ages.record(message.age));
            let repeated = |fate| matches!(fate, Fate::Retried | Fate::Deferred);
            count_errors(names::RELAY_ERRORS, &messages, repeated, &labels);
        }
    }
}

fn handled(report: &BatchReport) {
    let queue = Label::new(names::QUEUE, report.destination.clone());
    histogram!(names::WORKER_PROCESSING, vec![queue.clone()]).record(report.duration);
    for (topic, messages) in by_topic(report) {
        let labels = vec![queue.clone(), Label::new(names::TOPIC, topic.to_owned())];
        for (fate, number) in by_fate(&messages) {
            let mut labels = labels.clone();
            labels.push(Label::from_static_parts(names::FATE, fate));
            count(names::DELIVERIES, number, &labels);
        }
        let ages = histogram!(names::DELIVERY_AGE, labels.clone());
        let done = messages.iter().filter(|message| message.fate == Fate::Done);
        done.for_each(|message| ages.record(message.age));
        count_errors(names::WORKER_ERRORS, &messages, |_| true, &labels);
    }
}

#[async_trait]
impl DeliveryHook for MetricsHook {
    async fn after_batch(&self, report: &BatchReport) {
        let lost = report
            .messages
            .iter()
            .filter(|message| message.fate == Fate::Lost);
        count(names::LEASES_LOST, lost.count(), &[]);
        match report.stage {
            Stage::Publish => self.published(report),
            Stage::Handle => handled(report),
        }
    }
}

/// Records that messages were added to the outbox that its owner calls `outbox`.
pub fn record_added(outbox: &str, report: &AppendReport) {
    let labels = [Label::new(names::OUTBOX, outbox.to_owned())];
    count(names::EVENTS_ADDED, report.added(), &labels);
}

/// Records the state at `now` of the outbox that its owner calls `outbox`; call it every few
/// seconds.
pub fn record_outbox(outbox: &str, stats: &OutboxStats, now: Timestamp) {
    let label = || Label::new(names::OUTBOX, outbox.to_owned());
    let depths = [
        ("ready", stats.ready),
        ("waiting", stats.waiting),
        ("parked", stats.parked),
    ];
    set_depths(names::QUEUE_DEPTH, &label(), depths);
    set(names::EVENTS_RETAINED, stats.published as f64, label());
    set(names::EVENTS_QUARANTINED, stats.quarantined as f64, label());
    set(names::OLDEST_AGE, age(stats.oldest, now), label());
}

/// Records the state at `now` of the queue named `queue`; call it every few seconds.
pub fn record_queue(queue: &str, stats: &QueueStats, now: Timestamp) {
    let label = || Label::new(names::QUEUE, queue.to_owned());
    let depths = [
        ("ready", stats.ready),
        ("in_flight", stats.in_flight),
        ("delayed", stats.delayed),
    ];
    set_depths(names::STREAM_DEPTH, &label(), depths);
    set(names::STREAM_QUARANTINED, stats.quarantined as f64, label());
    set(names::STREAM_CONSUMERS, stats.consumers as f64, label());
    set(names::STREAM_OLDEST_AGE, age(stats.oldest, now), label());
}

/// Records that the server of the stream named `queue` was found, `losses` times since the program's
/// start, to have lost what it had acknowledged, as `RedisQueue::losses` (found by `queue`) and
/// `RedisPublisher::losses` (found by `publisher`) tell it; call it every few seconds.
pub fn record_losses(queue: &str, found_by: &'static str, losses: u64) {
    let found_by = Label::from_static_parts(names::FOUND_BY, found_by);
    let labels = vec![Label::new(names::QUEUE, queue.to_owned()), found_by];
    counter!(names::STREAM_LOSSES, labels).absolute(losses);
}

/// Records how every part is.
pub fn record_health(report: &HealthReport) {
    for check in &report.checks {
        let value = match check.health {
            Health::Healthy => 1.0,
            Health::Degraded(_) => 0.5,
            Health::Unhealthy(_) => 0.0,
        };
        set(
            names::HEALTH,
            value,
            Label::new(names::CHECK, check.name.clone()),
        );
    }
}

/// Tells the recorder what each metric means; call it once, after a recorder was installed.
pub fn describe_metrics() {
    for metric in names::METRICS.iter().chain(names::DEAD_LETTER_METRICS) {
        match metric.metric_type {
            MetricType::Counter => describe_counter!(metric.name, metric.meaning),
            MetricType::Gauge => describe_gauge!(metric.name, metric.meaning),
            MetricType::Histogram => describe_histogram!(metric.name, metric.meaning),
        }
    }
}

fn by_topic(report: &BatchReport) -> HashMap<&str, Vec<&MessageReport>> {
    let mut topics: HashMap<&str, Vec<_>> = HashMap::new();
    for message in &report.messages {
        topics.entry(&message.topic).or_default().push(message);
    }
    topics
}

fn by_fate(messages: &[&MessageReport]) -> BTreeMap<&'static str, usize> {
    let mut fates = BTreeMap::new();
    for message in messages {
        *fates.entry(fate_name(message.fate)).or_default() += 1;
    }
    fates
}

fn fate_name(fate: Fate) -> &'static str {
    match fate {
        Fate::Done => "done",
        Fate::Retried => "retried",
        Fate::Quarantined => "quarantined",
        Fate::Deferred => "deferred",
        Fate::Duplicate => "duplicate",
        Fate::Dropped => "dropped",
        Fate::Lost => "lost",
    }
}

/// Counts the errors of the fates that are `wanted`; a message that was held back was not tried.
fn count_errors(
    name: &'static str,
    messages: &[&MessageReport],
    wanted: impl Fn(Fate) -> bool,
    labels: &[Label],
) {
    let mut errors: BTreeMap<&str, usize> = BTreeMap::new();
    for message in messages.iter().filter(|message| wanted(message.fate)) {
        if let Some((kind, _)) = &message.error {
            *errors.entry(kind).or_default() += 1;
        }
    }
    errors.remove(PublishError::HeldBack.kind());
    for (kind, number) in errors {
        let error = Label::new(names::ERROR, kind.to_owned());
        count(name, number, &[labels, &[error]].concat());
    }
}

fn count(name: &'static str, number: usize, labels: &[Label]) {
    if number > 0 {
        counter!(name, labels.to_vec()).increment(number as u64);
    }
}

fn set_depths(name: &'static str, owner: &Label, depths: [(&'static str, u64); 3]) {
    for (status, depth) in depths {
        let status = Label::from_static_parts(names::STATUS, status);
        gauge!(name, vec![owner.clone(), status]).set(depth as f64);
    }
}

fn set(name: &'static str, value: f64, label: Label) {
    gauge!(name, vec![label]).set(value);
}

fn age(oldest: Option<Timestamp>, now: Timestamp) -> f64 {
    oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64())
}

#[cfg(test)]
mod tests;
