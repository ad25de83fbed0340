use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit, with_local_recorder,
};

use super::*;
use crate::id::{MessageId, WorkerId};
use crate::message::Kind;
use crate::observe::CheckReport;
use crate::observe::names::{DEAD_LETTER_METRICS, METRICS, Metric};
use crate::report::Appended;

/// Values by metric and labels, as `name{label=value,…}`; samples of a histogram are summed.
#[derive(Clone, Default)]
struct Values(Arc<Mutex<BTreeMap<String, f64>>>);

struct Cell(Values, String);

impl Cell {
    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut values = (self.0).0.lock().unwrap();
        let value = values.entry(self.1.clone()).or_default();
        *value = change(*value);
    }
}

impl CounterFn for Cell {
    fn increment(&self, value: u64) {
        self.change(|old| old + value as f64);
    }

    fn absolute(&self, value: u64) {
        self.change(|_| value as f64);
    }
}

impl GaugeFn for Cell {
    fn increment(&self, value: f64) {
        self.change(|old| old + value);
    }

    fn decrement(&self, value: f64) {
        self.change(|old| old - value);
    }

    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

impl HistogramFn for Cell {
    fn record(&self, value: f64) {
        self.change(|old| old + value);
    }
}

impl Values {
    fn cell(&self, key: &Key) -> Arc<Cell> {
        let labels = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()));
        let labels = labels.collect::<Vec<_>>().join(",");
        Arc::new(Cell(self.clone(), format!("{}{{{labels}}}", key.name())))
    }

    fn get(&self, name: &str, labels: &str) -> f64 {
        let values = self.0.lock().unwrap();
        let key = format!("{name}{{{labels}}}");
        *values
            .get(&key)
            .unwrap_or_else(|| panic!("no {key} in {values:#?}"))
    }
}

impl Recorder for Values {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.0.lock().unwrap().insert(name.as_str().to_owned(), 0.0);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.describe_counter(name, unit, meaning);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, meaning: SharedString) {
        self.describe_counter(name, unit, meaning);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.cell(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.cell(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.cell(key))
    }
}

fn message(topic: &str, fate: Fate, age: u64, error: Option<&str>) -> MessageReport {
    MessageReport {
        id: MessageId::from_bytes([1; 16]),
        topic: topic.to_owned(),
        kind: Kind::new("k"),
        ordering_key: None,
        attempt: 1,
        age: Duration::from_secs(age),
        fate,
        error: error.map(|kind| (kind.to_owned(), "text".to_owned())),
    }
}

fn batch(stage: Stage) -> BatchReport {
    BatchReport {
        stage,
        worker: WorkerId::from_bytes([1; 16]),
        destination: "d".to_owned(),
        duration: Duration::from_millis(500),
        messages: vec![
            message("t", Fate::Done, 1, None),
            message("t", Fate::Done, 9, None),
            message("t", Fate::Retried, 1, Some("failed")),
            message("t", Fate::Deferred, 1, Some("unavailable")),
            message("t", Fate::Deferred, 1, Some("held-back")),
            message("t", Fate::Quarantined, 1, Some("refused")),
            message("u", Fate::Lost, 1, None),
        ],
    }
}

fn recorded(record: impl FnOnce()) -> Values {
    let values = Values::default();
    with_local_recorder(&values, record);
    values
}

fn hear(report: &BatchReport) -> Values {
    let hook = MetricsHook::new(Duration::from_secs(5));
    recorded(|| hook.after_batch(report).now_or_never().unwrap())
}

#[test]
fn a_relays_batch_is_counted_by_destination_and_topic() {
    let values = hear(&batch(Stage::Publish));
    let labels = "destination=d,topic=t";
    assert_eq!(values.get(names::EVENTS_PUBLISHED, labels), 2.0);
    assert_eq!(values.get(names::EVENTS_WITHIN_SLA, labels), 1.0);
    assert_eq!(values.get(names::EVENTS_FAILED, labels), 1.0);
    assert_eq!(values.get(names::EVENT_AGE, labels), 10.0);
    let failed = "destination=d,topic=t,error=failed";
    assert_eq!(values.get(names::RELAY_ERRORS, failed), 1.0);
    assert_eq!(values.get(names::RELAY_PROCESSING, "destination=d"), 0.5);
    assert_eq!(values.get(names::LEASES_LOST, ""), 1.0);
}

#[test]
fn a_message_that_was_held_back_is_no_error() {
    let values = hear(&batch(Stage::Publish));
    let keys: Vec<_> = values.0.lock().unwrap().keys().cloned().collect();
    assert!(
        !keys.iter().any(|key| key.contains("held-back")),
        "{keys:?}"
    );
}

#[test]
fn a_workers_batch_is_counted_by_queue_topic_and_fate() {
    let values = hear(&batch(Stage::Handle));
    assert_eq!(
        values.get(names::DELIVERIES, "queue=d,topic=t,fate=done"),
        2.0
    );
    assert_eq!(
        values.get(names::DELIVERIES, "queue=d,topic=t,fate=retried"),
        1.0
    );
    assert_eq!(
        values.get(names::WORKER_ERRORS, "queue=d,topic=t,error=refused"),
        1.0
    );
    assert_eq!(values.get(names::DELIVERY_AGE, "queue=d,topic=t"), 10.0);
    assert_eq!(values.get(names::WORKER_PROCESSING, "queue=d"), 0.5);
}

#[test]
fn the_states_of_outbox_queue_and_parts_are_gauges() {
    let values = recorded(record_states);
    assert_eq!(
        values.get(names::QUEUE_DEPTH, "outbox=o,status=waiting"),
        2.0
    );
    assert_eq!(values.get(names::OLDEST_AGE, "outbox=o"), 3.0);
    assert_eq!(values.get(names::EVENTS_ADDED, "outbox=o"), 1.0);
    assert_eq!(
        values.get(names::STREAM_DEPTH, "queue=q,status=in_flight"),
        7.0
    );
    assert_eq!(values.get(names::STREAM_OLDEST_AGE, "queue=q"), 0.0);
    let found_by = "queue=q,found_by=publisher";
    assert_eq!(values.get(names::STREAM_LOSSES, found_by), 3.0);
    assert_eq!(values.get(names::HEALTH, "check=c"), 0.5);
}

fn record_states() {
    let now = Timestamp::from_millis(10_000);
    let outbox = OutboxStats {
        waiting: 2,
        oldest: Some(Timestamp::from_millis(7_000)),
        ..OutboxStats::default()
    };
    record_outbox("o", &outbox, now);
    let queue = QueueStats {
        in_flight: 7,
        ..QueueStats::default()
    };
    record_queue("q", &queue, now);
    // Told again and again, as the sum that it is.
    record_losses("q", "publisher", 2);
    record_losses("q", "publisher", 3);
    let added = |duplicate| Appended {
        id: MessageId::from_bytes([1; 16]),
        duplicate,
    };
    let messages = vec![added(false), added(true)];
    record_added("o", &AppendReport { messages });
    let health = Health::Degraded("tired".to_owned());
    let check = CheckReport {
        name: "c".to_owned(),
        health: health.clone(),
    };
    record_health(&HealthReport {
        overall: health,
        checks: vec![check],
    });
}

/// The metric and its labels, without their values.
fn shape(key: &str) -> String {
    let (name, labels) = key.trim_end_matches('}').split_once('{').unwrap();
    let labels = labels
        .split(',')
        .filter_map(|label| label.split('=').next());
    format!("{name} {}", labels.collect::<Vec<_>>().join(","))
}

#[test]
fn every_metric_of_the_table_is_recorded_with_its_labels_and_no_other_is() {
    let values = recorded(|| {
        let hook = MetricsHook::new(Duration::from_secs(5));
        for stage in [Stage::Publish, Stage::Handle] {
            hook.after_batch(&batch(stage)).now_or_never().unwrap();
        }
        record_states();
    });
    let found: BTreeSet<_> = values
        .0
        .lock()
        .unwrap()
        .keys()
        .map(|key| shape(key))
        .collect();
    let stated = |metric: &Metric| format!("{} {}", metric.name, metric.labels.join(","));
    let table: BTreeSet<_> = METRICS.iter().map(stated).collect();
    assert_eq!(found, table);
}

#[test]
fn every_metric_is_described() {
    let described = recorded(describe_metrics);
    let metrics = METRICS.len() + DEAD_LETTER_METRICS.len();
    assert_eq!(described.0.lock().unwrap().len(), metrics);
}
