//! What settings cost, beside the defaults, and how cost grows with sizes and numbers.

mod costs;
mod crews;
mod memory;
mod queue;
mod relay;
mod sizes;
mod trial;

pub(crate) use memory::child;

use crate::Item;

pub(crate) const ITEMS: &[Item] = &[
    ("S-keys", sizes::keys),
    ("S-payload", sizes::payloads),
    ("S-workers", crews::of_relays_and_workers),
    ("S-memory", memory::over_the_run),
    ("C-synchronous", costs::synchronous),
    ("C-batch", costs::batches),
    ("C-retention", costs::retention),
    ("C-order", costs::order),
    ("C-dedup", costs::dedup),
    ("C-dlq", costs::dead_letters),
];
