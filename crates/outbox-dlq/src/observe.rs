use metrics::{Label, counter, gauge};
use outbox_core::observe::names;
use outbox_core::time::Timestamp;

use crate::heap::HeapStats;
use crate::letter::Counts;
use crate::processor::DlqReport;

/// Records what rests in quarantine at `now`, with the `metrics` crate's global recorder; call it
/// every few seconds, with counts of everything.
pub fn record_dead_letters(counts: &Counts, now: Timestamp) {
    for (origin, letters) in &counts.origins {
        let origin = Label::new(names::ORIGIN, origin.to_string());
        gauge!(names::DEAD_LETTERS, vec![origin]).set(*letters as f64);
    }
    gauge!(names::DEAD_LETTERS_CAME_BACK).set(counts.came_back as f64);
    gauge!(names::DEAD_LETTERS_OLDEST_AGE).set(age(counts.oldest, now));
}

/// Records the state of a heap at `now`; call it every few seconds.
pub fn record_heap(stats: &HeapStats, now: Timestamp) {
    gauge!(names::DLQ_HEAP_ENTRIES).set(stats.entries as f64);
    gauge!(names::DLQ_HEAP_OLDEST_AGE).set(age(stats.oldest, now));
}

/// Records what a run of a processor, or one look by [`crate::DlqProcessor::run_once`], has done.
pub fn record_processor(report: &DlqReport) {
    counter!(names::DLQ_QUARANTINED).increment(report.quarantined);
    counter!(names::DLQ_FAILED).increment(report.failed);
}

fn age(oldest: Option<Timestamp>, now: Timestamp) -> f64 {
    oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64())
}
