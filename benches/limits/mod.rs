//! The outbox and the queue in SQLite.

mod append;
mod claim;
pub(crate) mod latency;
mod outage;
mod queue;
pub(crate) mod resources;

use crate::Item;

pub(crate) const ITEMS: &[Item] = &[
    ("P1", append::batches),
    ("P2", append::singles),
    ("P3", append::in_transaction),
    ("P4", claim::claim_and_settle),
    ("P5", claim::relay),
    ("P8", queue::enqueue_to_handled),
    ("P9", latency::commit_to_handler),
    ("P10", resources::idle),
    ("P11", resources::memory_and_bytes),
    ("P12", outage::drain),
];
