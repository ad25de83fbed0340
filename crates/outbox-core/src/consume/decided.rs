//! What becomes of a delivery: before it is handled, and after.

use std::time::Duration;

use crate::delivery::Delivery;
use crate::error::HandlerError;
use crate::ports::{ClaimToken, DeliveryOutcome, Handled};
use crate::report::Fate;
use crate::status::AttemptRecord;
use crate::time::Timestamp;

/// A delivery that may be handled now.
pub(super) struct Admitted {
    pub(super) delivery: Delivery,
    pub(super) claim: Option<ClaimToken>,
}

/// A delivery that is decided without being handled, or after it.
pub(super) struct Decided {
    pub(super) delivery: Delivery,
    pub(super) claim: Option<ClaimToken>,
    pub(super) outcome: DeliveryOutcome,
    pub(super) fate: Fate,
    pub(super) error: Option<(String, String)>,
    /// Whether it was given to the handler.
    pub(super) handled: bool,
    /// How long handling took.
    pub(super) took: Duration,
}

/// What admission came to.
#[derive(Default)]
pub(super) struct Admission {
    pub(super) admitted: Vec<Admitted>,
    pub(super) decided: Vec<Decided>,
    /// Until when nothing more will be admitted.
    pub(super) closed_until: Option<Timestamp>,
}

/// A delivery that was handled, somehow.
pub(super) struct Ended {
    pub(super) admitted: Admitted,
    pub(super) ending: Ending,
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
}

/// How one handling ended.
pub(super) enum Ending {
    /// The handler answered.
    Answered(Result<Handled, HandlerError>),
    /// It panicked or outlived its timeout.
    Broken(String),
}

impl Admission {
    /// Takes an admitted delivery out again, untried.
    pub(super) fn refuse(&mut self, place: usize, fate: Fate, now: Timestamp) {
        let refused = Decided::delayed(self.admitted.remove(place), now);
        self.decided.push(Decided { fate, ..refused });
    }
}

impl Admitted {
    pub(super) fn unclaimed(delivery: Delivery) -> Self {
        Self {
            delivery,
            claim: None,
        }
    }
}

impl Decided {
    pub(super) fn new(
        admitted: Admitted,
        outcome: DeliveryOutcome,
        fate: Fate,
        error: Option<(String, String)>,
    ) -> Self {
        Self {
            delivery: admitted.delivery,
            claim: admitted.claim,
            outcome,
            fate,
            error,
            handled: false,
            took: Duration::ZERO,
        }
    }

    pub(super) fn duplicate(delivery: Delivery) -> Self {
        let admitted = Admitted::unclaimed(delivery);
        Self::new(admitted, DeliveryOutcome::Done, Fate::Duplicate, None)
    }

    /// A delivery that was not tried, and comes again at `due_at`.
    pub(super) fn delayed(admitted: Admitted, due_at: Timestamp) -> Self {
        Self::new(
            admitted,
            DeliveryOutcome::Delay { due_at },
            Fate::Deferred,
            None,
        )
    }

    pub(super) fn retried(admitted: Admitted, due_at: Timestamp, failure: AttemptRecord) -> Self {
        let error = Some((failure.kind.clone(), failure.error.clone()));
        Self::new(
            admitted,
            DeliveryOutcome::Retry { due_at, failure },
            Fate::Retried,
            error,
        )
    }

    pub(super) fn quarantined(admitted: Admitted, failure: AttemptRecord) -> Self {
        let error = Some((failure.kind.clone(), failure.error.clone()));
        Self::new(
            admitted,
            DeliveryOutcome::Quarantine { failure },
            Fate::Quarantined,
            error,
        )
    }
}
