use std::sync::Arc;

use outbox_core::testing::{Case, Kit, Requirement};

use super::harness::{DlqCapabilities, DlqHarness};
use super::{copies, drain, heap, listing, moving, order, processor, redrive, refusals, room};

/// A case of dead letters.
pub(super) type DlqCase = Case<dyn DlqHarness, DlqCapabilities>;

pub(super) const CORRUPTION: Requirement<DlqCapabilities> = Requirement {
    what: "needs a harness that can damage what is stored",
    met: |capabilities| capabilities.corruption,
};

pub(super) const OUTBOX: Requirement<DlqCapabilities> = Requirement {
    what: "needs an outbox",
    met: |capabilities| capabilities.outbox,
};

pub(super) const QUEUE: Requirement<DlqCapabilities> = Requirement {
    what: "needs a queue",
    met: |capabilities| capabilities.queue,
};

pub(super) const BOTH: Requirement<DlqCapabilities> = Requirement {
    what: "needs an outbox and a queue",
    met: |capabilities| capabilities.outbox && capabilities.queue,
};

pub(super) const HIGH_WATER: Requirement<DlqCapabilities> = Requirement {
    what: "needs a queue whose high-water mark can be set and is respected",
    met: |capabilities| capabilities.queue && capabilities.high_water,
};

/// A [`Case`] that is named as the async function which proves it.
macro_rules! case {
    ($contract:literal, $name:ident) => {
        $crate::testing::table::case!($contract, $name, outbox_core::testing::Requirement::NOTHING)
    };
    ($contract:literal, $name:ident, $requires:expr) => {
        outbox_core::testing::Case {
            name: stringify!($name),
            contract: $contract,
            requires: $requires,
            run: |harness| Box::pin($name(harness)),
        }
    };
}
pub(super) use case;

const TOPICS: &[&[DlqCase]] = &[
    heap::CASES,
    drain::CASES,
    moving::CASES,
    listing::CASES,
    redrive::CASES,
    order::CASES,
    refusals::CASES,
    room::CASES,
    copies::CASES,
    processor::CASES,
];

/// Every case of [`crate::DlqHeap`] and [`crate::Quarantine`].
pub fn dlq_cases() -> impl Iterator<Item = Case<dyn DlqHarness, DlqCapabilities>> {
    TOPICS.iter().copied().flatten().copied()
}

/// `kit` with every case of [`crate::DlqHeap`] and [`crate::Quarantine`].
#[must_use]
pub fn with_dlq(kit: Kit, harness: impl DlqHarness + 'static) -> Kit {
    let harness: Arc<dyn DlqHarness> = Arc::new(harness);
    let capabilities = harness.capabilities();
    kit.with("dlq", harness, &capabilities, dlq_cases())
}
