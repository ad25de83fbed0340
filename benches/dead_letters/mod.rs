//! Quarantining and redriving of many messages in an SQLite file, what it takes of memory, and what
//! it leaves to publishing.

mod beside;
mod given;
pub(crate) mod memory;
mod rates;

use crate::Item;

/// The work item that every row is about.
const ID: &str = "DLQ";

pub(crate) const ITEMS: &[Item] = &[
    ("DLQ-rates", rates::there_and_back),
    ("DLQ-count", rates::count),
    ("DLQ-memory", memory::peak),
    ("DLQ-publishing", beside::publishing),
];
