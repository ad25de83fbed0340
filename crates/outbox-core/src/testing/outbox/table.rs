use std::sync::Arc;

use super::harness::{LeaseScope, OutboxCapabilities, OutboxHarness};
use super::{
    append, cancel, claim, due, duplicates, hold, keys, lease, limits, maintain, on_failure,
    quarantine, replay, settle, transaction, wake,
};
use crate::status::Ordering;
use crate::testing::kit::{Case, Kit, Requirement};

/// A case of the outbox's ports.
pub(super) type OutboxCase = Case<dyn OutboxHarness, OutboxCapabilities>;

type Needs = Requirement<OutboxCapabilities>;

pub(super) const IN_COMMIT_ORDER: Needs = Requirement {
    what: "needs an outbox that keeps commit order",
    met: |capabilities| capabilities.ordering >= Ordering::Commit,
};

pub(super) const IN_KEY_ORDER: Needs = Requirement {
    what: "needs an outbox that keeps the order of a key",
    met: |capabilities| capabilities.ordering >= Ordering::PerKey,
};

pub(super) const ONE_LEASE: Needs = Requirement {
    what: "needs a lease that covers the whole outbox",
    met: |capabilities| capabilities.lease == LeaseScope::Outbox,
};

pub(super) const TRANSACTIONS: Needs = Requirement {
    what: "needs appends that join a transaction",
    met: |capabilities| capabilities.transactions,
};

pub(super) const ORDERED_TRANSACTIONS: Needs = Requirement {
    what: "needs appends that join a transaction, in commit order",
    met: |capabilities| (TRANSACTIONS.met)(capabilities) && (IN_COMMIT_ORDER.met)(capabilities),
};

pub(super) const OUTSIDE_TRANSACTION: Needs = Requirement {
    what: "needs connections that may be outside a transaction",
    met: |capabilities| capabilities.transactions && capabilities.refuses_outside_transaction,
};

pub(super) const CORRUPTION: Needs = Requirement {
    what: "needs a harness that can damage a row",
    met: |capabilities| capabilities.corruption,
};

pub(super) const QUIET: Needs = Requirement {
    what: "needs signals that are never given for nothing",
    met: |capabilities| capabilities.quiet_wake,
};

pub(super) const QUIET_TRANSACTIONS: Needs = Requirement {
    what: "needs appends that join a transaction, and signals that are never given for nothing",
    met: |capabilities| (TRANSACTIONS.met)(capabilities) && (QUIET.met)(capabilities),
};

pub(super) const REPLAY: Needs = Requirement {
    what: "needs an outbox that can publish again what it keeps",
    met: |capabilities| capabilities.replay,
};

pub(super) const ORDERED_REPLAY: Needs = Requirement {
    what: "needs an outbox that can publish again what it keeps, and keeps the order of a key",
    met: |capabilities| (REPLAY.met)(capabilities) && (IN_KEY_ORDER.met)(capabilities),
};

const TOPICS: &[&[OutboxCase]] = &[
    append::CASES,
    duplicates::CASES,
    limits::CASES,
    transaction::CASES,
    claim::CASES,
    lease::CASES,
    due::CASES,
    keys::CASES,
    on_failure::CASES,
    settle::CASES,
    hold::CASES,
    maintain::CASES,
    quarantine::CASES,
    replay::CASES,
    wake::CASES,
    cancel::CASES,
];

/// Every case of [`crate::ports::Outbox`], [`crate::ports::TransactionalOutbox`] and
/// [`crate::ports::Replay`].
pub fn outbox_cases() -> impl Iterator<Item = Case<dyn OutboxHarness, OutboxCapabilities>> {
    TOPICS.iter().copied().flatten().copied()
}

impl Kit {
    /// Adds every case of [`crate::ports::Outbox`], [`crate::ports::TransactionalOutbox`] and
    /// [`crate::ports::Replay`].
    #[must_use]
    pub fn outbox(self, harness: impl OutboxHarness + 'static) -> Self {
        let harness: Arc<dyn OutboxHarness> = Arc::new(harness);
        let capabilities = harness.capabilities();
        self.with("outbox", harness, &capabilities, outbox_cases())
    }
}
