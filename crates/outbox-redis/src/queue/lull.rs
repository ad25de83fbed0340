//! What a worker keeps in mind between two waits in vain, so that the second costs one request.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use outbox_core::id::WorkerId;

use super::waiting::Look;

/// After so many waits the server is asked anew for what there is.
const LOOK_AFTER: u32 = 4;

/// The most workers of whom it is noted; more are only asked about more often.
const MOST: usize = 1_000;

/// What one who found nothing was told, and how many of his waits nothing has ended since.
pub(super) struct Lull {
    pub(super) look: Look,
    waits: u32,
}

/// What one who waits again asks before.
pub(super) enum Before {
    Nothing,
    /// Whether there are consumers of workers that are gone.
    Gone,
    /// What there is.
    All,
}

impl Lull {
    pub(super) fn of(look: Look) -> Self {
        Self { look, waits: 0 }
    }

    /// Whether nothing comes by itself: nothing is held, nothing is delayed. That stays true until
    /// the stream grows or the bell rings, which ends a wait, or begins the next one's end.
    pub(super) fn is_quiet(&self) -> bool {
        let look = &self.look;
        look.next_due.is_none() && !look.held && !look.unheld
    }

    /// Notes a wait that nothing ended.
    pub(super) fn goes_on(self) -> Self {
        let waits = self.waits + 1;
        Self { waits, ..self }
    }

    /// What is asked before the next wait: never all that there is to ask, so that an idle worker asks
    /// little in any minute.
    pub(super) fn before(&self) -> Before {
        match self.waits {
            LOOK_AFTER.. => Before::All,
            waits if waits == LOOK_AFTER / 2 => Before::Gone,
            _ => Before::Nothing,
        }
    }
}

/// The lulls that workers are in between two calls.
#[derive(Default)]
pub(super) struct Lulls(Mutex<HashMap<WorkerId, Lull>>);

impl Lulls {
    pub(super) fn take(&self, owner: WorkerId) -> Option<Lull> {
        self.known().remove(&owner)
    }

    pub(super) fn put(&self, owner: WorkerId, lull: Lull) {
        let mut lulls = self.known();
        if lulls.len() >= MOST {
            lulls.clear();
        }
        lulls.insert(owner, lull);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<WorkerId, Lull>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
