//! Cases of [`crate::ports::Outbox`] and [`crate::ports::TransactionalOutbox`].

mod append;
mod cancel;
mod claim;
mod due;
mod duplicates;
mod harness;
mod hold;
mod keys;
mod lease;
mod limits;
mod maintain;
mod on_failure;
mod quarantine;
mod relay;
mod replay;
mod scene;
mod settle;
mod table;
mod transaction;
mod wake;

pub use harness::{
    LeaseScope, OpenTransaction, OutboxCapabilities, OutboxHarness, OutboxSetup, OutboxStore,
    TransactionOn,
};
pub use table::outbox_cases;
