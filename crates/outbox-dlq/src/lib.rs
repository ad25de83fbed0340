//! Dead letters: count failures, quarantine what fails too often, understand it, send it back.
//!
//! Two ports, and what works on them:
//!
//! | part | what it is |
//! |---|---|
//! | [`DlqHeap`] | counts failures of messages, and hands out those that failed too often |
//! | [`Quarantine`] | moves messages out of an outbox or a queue, keeps them, and sends them back |
//! | [`FailureRecorder`] | a delivery hook that tells a heap what failed |
//! | [`DlqProcessor`] | takes from the heap what failed too often, and puts it into quarantine |
//! | [`Operator`] | what people do with a quarantine: redrive, discard, export, import |
//!
//! Relays and workers know nothing of all this: they have a hook more, or not. What they give up by
//! themselves, after their last attempt or because it was refused, rests in the same quarantine.
//!
//! Both sides are meant: messages that could not be published ([`Origin::Outbox`]), and deliveries
//! that could not be handled ([`Origin::Queue`]).

mod config;
mod fingerprint;
mod heap;
mod lately;
mod letter;
mod lines;
mod memory;
#[cfg(feature = "metrics")]
mod observe;
mod operator;
mod origin;
mod pace;
mod processor;
mod quarantine;
mod recorder;
mod redrive;
#[cfg(feature = "testing")]
pub mod testing;

pub use config::{DlqProcessorConfig, RedriveConfig};
pub use fingerprint::{Fingerprint, InvalidFingerprint, normalise};
pub use heap::{DlqEntry, DlqHeap, DrainRequest, Failure, HeapStats};
pub use letter::{Counts, DeadLetter, Filter, Group, LetterId, Listing, Page};
pub use lines::{read_line, write_line};
pub use memory::{MemoryDlqHeap, MemoryQuarantine};
#[cfg(feature = "metrics")]
pub use observe::{record_dead_letters, record_heap, record_processor};
pub use operator::{DlqError, ImportSummary, Operator};
pub use origin::{InvalidOrigin, Origin, Subject};
pub use processor::{DlqProcessor, DlqReport};
pub use quarantine::{
    Action, ActionId, ActionKind, Attempts, AuditRecord, CountRequest, DiscardReport,
    DiscardRequest, ImportReport, Move, Quarantine, RedriveCursor, RedriveReport, RedriveRequest,
    Refusal,
};
pub use recorder::FailureRecorder;
pub use redrive::RedriveSummary;
