//! The name of every metric, label and span; dashboards, alerts and code agree by these.

/// Label: the destination that was published to.
pub const DESTINATION: &str = "destination";
/// Label: the queue that deliveries come from.
pub const QUEUE: &str = "queue";
/// Label: the outbox, by the name that its owner gives it.
pub const OUTBOX: &str = "outbox";
/// Label: the message's topic.
pub const TOPIC: &str = "topic";
/// Label: where messages or entries stand, as `ready`.
pub const STATUS: &str = "status";
/// Label: what happened to a delivery, as `done`.
pub const FATE: &str = "fate";
/// Label: a short stable word for what went wrong, as `unavailable`.
pub const ERROR: &str = "error";
/// Label: what a dead letter left, as `outbox` or `queue:orders`.
pub const ORIGIN: &str = "origin";
/// Label: who found something out, as `queue` or `publisher`.
pub const FOUND_BY: &str = "found_by";
/// Label: the name of a health check.
pub const CHECK: &str = "check";

/// Gauge: unpublished messages, by status.
#[doc(alias = "pyairtable_outbox_events_in_queue")]
#[doc(alias = "outbox_queue_depth")]
pub const QUEUE_DEPTH: &str = "outbox_queue_depth";
/// Gauge: published messages that are kept for the retention window.
pub const EVENTS_RETAINED: &str = "outbox_events_retained";
/// Gauge: messages in quarantine.
pub const EVENTS_QUARANTINED: &str = "outbox_events_quarantined";
/// Gauge: how long ago the oldest unpublished message was created.
pub const OLDEST_AGE: &str = "outbox_oldest_age_seconds";
/// Counter: messages added to an outbox.
#[doc(alias = "outbox_events_added_total")]
pub const EVENTS_ADDED: &str = "outbox_events_added_total";
/// Counter: messages published.
#[doc(alias = "outbox_events_published_total")]
pub const EVENTS_PUBLISHED: &str = "outbox_events_published_total";
/// Counter: messages that failed for good and went to quarantine.
#[doc(alias = "outbox_events_failed_total")]
pub const EVENTS_FAILED: &str = "outbox_events_failed_total";
/// Counter: attempts to publish that will be repeated, by error.
#[doc(alias = "outbox_relay_errors_total")]
pub const RELAY_ERRORS: &str = "outbox_relay_errors_total";
/// Counter: settlements by relays and workers that came too late; no message is lost by that.
pub const LEASES_LOST: &str = "outbox_leases_lost_total";
/// Histogram: the age of messages when they were published.
#[doc(alias = "outbox_event_age_seconds")]
pub const EVENT_AGE: &str = "outbox_event_age_seconds";
/// Counter: messages published within the promised age; its share of the published ones is the
/// compliance.
#[doc(alias = "pyairtable_outbox_sla_compliance")]
pub const EVENTS_WITHIN_SLA: &str = "outbox_events_within_sla_total";
/// Histogram: how long calls to publishers took.
#[doc(alias = "pyairtable_outbox_event_processing_duration_seconds")]
#[doc(alias = "outbox_relay_processing_seconds")]
pub const RELAY_PROCESSING: &str = "outbox_relay_processing_seconds";

/// Gauge: unsettled entries of a queue, by status.
pub const STREAM_DEPTH: &str = "outbox_stream_depth";
/// Gauge: entries of a queue in quarantine.
pub const STREAM_QUARANTINED: &str = "outbox_stream_quarantined";
/// Gauge: workers that hold a delivery.
#[doc(alias = "pyairtable_outbox_worker_health")]
pub const STREAM_CONSUMERS: &str = "outbox_stream_consumers";
/// Gauge: how long ago the oldest unsettled entry was enqueued.
pub const STREAM_OLDEST_AGE: &str = "outbox_stream_oldest_age_seconds";
/// Counter: how often a server was found to have lost what it had acknowledged, by who found it.
pub const STREAM_LOSSES: &str = "outbox_stream_losses_total";
/// Counter: deliveries that workers decided, by fate.
#[doc(alias = "pyairtable_outbox_events_processed_total")]
pub const DELIVERIES: &str = "outbox_deliveries_total";
/// Counter: attempts to handle that did not succeed, by error.
pub const WORKER_ERRORS: &str = "outbox_worker_errors_total";
/// Histogram: the age of messages when they were handled.
pub const DELIVERY_AGE: &str = "outbox_delivery_age_seconds";
/// Histogram: how long batches of deliveries took to handle.
pub const WORKER_PROCESSING: &str = "outbox_worker_processing_seconds";

/// Gauge: dead letters in quarantine, by origin.
pub const DEAD_LETTERS: &str = "outbox_dead_letters";
/// Gauge: dead letters that were redriven and came back.
pub const DEAD_LETTERS_CAME_BACK: &str = "outbox_dead_letters_came_back";
/// Gauge: how long ago the oldest dead letter came to rest.
pub const DEAD_LETTERS_OLDEST_AGE: &str = "outbox_dead_letters_oldest_age_seconds";
/// Gauge: messages whose failures are counted.
pub const DLQ_HEAP_ENTRIES: &str = "outbox_dlq_heap_entries";
/// Gauge: for how long the message has been failing that fails for the longest.
pub const DLQ_HEAP_OLDEST_AGE: &str = "outbox_dlq_heap_oldest_age_seconds";
/// Counter: messages that a dead-letter processor put into quarantine.
pub const DLQ_QUARANTINED: &str = "outbox_dlq_quarantined_total";
/// Counter: passes of a dead-letter processor that a store's failure ended.
pub const DLQ_FAILED: &str = "outbox_dlq_failed_passes_total";

/// Gauge: 1 for a healthy part, 0.5 for a degraded one, 0 for one that does not work.
pub const HEALTH: &str = "outbox_health";

/// Span: a producer persists messages.
pub const SPAN_PERSIST: &str = "outbox.persist";
/// Span: an outbox is flushed.
pub const SPAN_FLUSH: &str = "outbox.flush";
/// Span: a step of a saga.
pub const SPAN_SAGA_STEP: &str = "outbox.saga_step";
/// Span: a relay claims messages.
pub const SPAN_CLAIM: &str = "outbox.claim";
/// Span: a relay publishes a batch.
pub const SPAN_PUBLISH: &str = "outbox.publish";
/// Span: a relay or a worker settles.
pub const SPAN_SETTLE: &str = "outbox.settle";
/// Span: a worker takes deliveries.
pub const SPAN_DEQUEUE: &str = "outbox.dequeue";
/// Span: a worker handles a delivery.
pub const SPAN_HANDLE: &str = "outbox.handle";
/// Span: a worker takes over what a dead one left.
pub const SPAN_RECOVER: &str = "outbox.recover";

/// What a metric measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricType {
    /// A number that only grows.
    Counter,
    /// A present state.
    Gauge,
    /// Single values, counted by size.
    Histogram,
}

/// One metric, as the documentation and dashboards know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The metric's name.
    pub name: &'static str,
    /// What it measures.
    pub metric_type: MetricType,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub meaning: &'static str,
}

const fn metric(
    name: &'static str,
    metric_type: MetricType,
    labels: &'static [&'static str],
    meaning: &'static str,
) -> Metric {
    Metric {
        name,
        metric_type,
        labels,
        meaning,
    }
}

use MetricType::{Counter, Gauge, Histogram};

/// Every metric.
pub const METRICS: &[Metric] = &[
    metric(
        QUEUE_DEPTH,
        Gauge,
        &[OUTBOX, STATUS],
        "unpublished messages",
    ),
    metric(
        EVENTS_RETAINED,
        Gauge,
        &[OUTBOX],
        "published messages kept for the retention window",
    ),
    metric(
        EVENTS_QUARANTINED,
        Gauge,
        &[OUTBOX],
        "messages in quarantine",
    ),
    metric(
        OLDEST_AGE,
        Gauge,
        &[OUTBOX],
        "age of the oldest unpublished message",
    ),
    metric(EVENTS_ADDED, Counter, &[OUTBOX], "messages added"),
    metric(
        EVENTS_PUBLISHED,
        Counter,
        &[DESTINATION, TOPIC],
        "messages published",
    ),
    metric(
        EVENTS_FAILED,
        Counter,
        &[DESTINATION, TOPIC],
        "messages that went to quarantine",
    ),
    metric(
        RELAY_ERRORS,
        Counter,
        &[DESTINATION, TOPIC, ERROR],
        "publish attempts to be repeated",
    ),
    metric(LEASES_LOST, Counter, &[], "settlements that came too late"),
    metric(
        EVENT_AGE,
        Histogram,
        &[DESTINATION, TOPIC],
        "age of messages when published",
    ),
    metric(
        EVENTS_WITHIN_SLA,
        Counter,
        &[DESTINATION, TOPIC],
        "messages published in time",
    ),
    metric(
        RELAY_PROCESSING,
        Histogram,
        &[DESTINATION],
        "duration of publish calls",
    ),
    metric(STREAM_DEPTH, Gauge, &[QUEUE, STATUS], "unsettled entries"),
    metric(STREAM_QUARANTINED, Gauge, &[QUEUE], "entries in quarantine"),
    metric(
        STREAM_CONSUMERS,
        Gauge,
        &[QUEUE],
        "workers that hold a delivery",
    ),
    metric(
        STREAM_OLDEST_AGE,
        Gauge,
        &[QUEUE],
        "age of the oldest unsettled entry",
    ),
    metric(
        STREAM_LOSSES,
        Counter,
        &[QUEUE, FOUND_BY],
        "times that the server was found to have lost data",
    ),
    metric(
        DELIVERIES,
        Counter,
        &[QUEUE, TOPIC, FATE],
        "deliveries decided",
    ),
    metric(
        WORKER_ERRORS,
        Counter,
        &[QUEUE, TOPIC, ERROR],
        "attempts to handle that failed",
    ),
    metric(
        DELIVERY_AGE,
        Histogram,
        &[QUEUE, TOPIC],
        "age of messages when handled",
    ),
    metric(
        WORKER_PROCESSING,
        Histogram,
        &[QUEUE],
        "duration of handling batches",
    ),
    metric(
        HEALTH,
        Gauge,
        &[CHECK],
        "1 healthy, 0.5 degraded, 0 not working",
    ),
];

/// Every metric of dead letters, which `outbox-dlq` records.
pub const DEAD_LETTER_METRICS: &[Metric] = &[
    metric(DEAD_LETTERS, Gauge, &[ORIGIN], "dead letters"),
    metric(
        DEAD_LETTERS_CAME_BACK,
        Gauge,
        &[],
        "dead letters that were redriven and came back",
    ),
    metric(
        DEAD_LETTERS_OLDEST_AGE,
        Gauge,
        &[],
        "age of the oldest dead letter",
    ),
    metric(
        DLQ_HEAP_ENTRIES,
        Gauge,
        &[],
        "messages whose failures are counted",
    ),
    metric(
        DLQ_HEAP_OLDEST_AGE,
        Gauge,
        &[],
        "how long the longest has been failing",
    ),
    metric(
        DLQ_QUARANTINED,
        Counter,
        &[],
        "messages that the processor put into quarantine",
    ),
    metric(
        DLQ_FAILED,
        Counter,
        &[],
        "passes of the processor that a store ended",
    ),
];
