//! Cases of [`crate::ports::Outbox`] and [`crate::ports::TransactionalOutbox`].

mod append;
mod harness;
mod scene;
mod table;

pub use harness::{
    LeaseScope, OpenTransaction, OutboxCapabilities, OutboxHarness, OutboxSetup, OutboxStore,
    TransactionOn,
};
pub use table::outbox_cases;
