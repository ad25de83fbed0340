//! What all outboxes on one store share within a process.

use std::sync::{Mutex, MutexGuard, PoisonError};

use outbox_core::id::WorkerId;
use outbox_core::lease::LeaseToken;
use outbox_core::ports::ClaimRequest;
use tokio::sync::Mutex as Turn;

use super::group::Group;
use super::lease::Standing;
use super::pulse::Pulse;
use super::session::Session;

/// The line of those who append, and the mind of the holder of the lease.
#[derive(Default)]
pub(crate) struct Shared {
    pub(super) group: Group,
    /// Held by the claim that is under way: two at once would hand out the same rows.
    pub(super) claiming: Turn<()>,
    session: Mutex<Option<Session>>,
    /// Who is taking the lease of which epoch: where the taker's future is dropped before it knows
    /// that it has it, the next claim knows.
    taking: Mutex<Option<(WorkerId, i64)>>,
}

impl Shared {
    /// The session, if there is one.
    pub(super) fn session(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `look` answers about the session of `epoch`; `None` where it ended.
    pub(super) fn with_session<T>(
        &self,
        epoch: i64,
        look: impl FnOnce(&mut Session) -> T,
    ) -> Option<T> {
        let mut session = self.session();
        session
            .as_mut()
            .filter(|session| session.epoch == epoch)
            .map(look)
    }

    /// Notes that `owner` is about to take the lease of `epoch`.
    pub(super) fn take(&self, owner: WorkerId, epoch: i64) {
        *self.taking.lock().unwrap_or_else(PoisonError::into_inner) = Some((owner, epoch));
    }

    /// Whose the lease in `pulse` is, for the claimer.
    pub(super) fn standing(&self, pulse: &Pulse, request: &ClaimRequest) -> Standing {
        let mut session = self.session();
        let taken = *self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let known = session
            .as_ref()
            .is_some_and(|session| session.epoch == pulse.epoch);
        if !known
            && taken == Some((request.owner, pulse.epoch))
            && pulse.owner == Some(request.owner)
        {
            *session = Some(Session::new(request.owner, pulse.epoch, pulse.expires_at));
        }
        Standing::of(pulse, session.as_ref(), request.owner, request.now)
    }

    /// Who holds the lease, as far as this process knows, and which of `tokens` it does not hold.
    pub(super) fn lost_among(
        &self,
        tokens: &[LeaseToken],
    ) -> (Option<(WorkerId, i64)>, Vec<LeaseToken>) {
        let session = self.session();
        let Some(session) = &*session else {
            return (None, tokens.to_vec());
        };
        let held = |token: &&LeaseToken| {
            token.epoch.0 as i64 == session.epoch && session.holds(token.sequence.0 as i64)
        };
        let lost = tokens
            .iter()
            .filter(|token| !held(token))
            .copied()
            .collect();
        (Some((session.owner, session.epoch)), lost)
    }

    /// Begins a session; the one before it has lost its lease.
    pub(super) fn begin_session(&self, session: Session) {
        *self.session() = Some(session);
    }

    /// Ends the session of `epoch`, whose lease is lost.
    pub(super) fn end_session(&self, epoch: i64) {
        self.session().take_if(|session| session.epoch == epoch);
    }
}
