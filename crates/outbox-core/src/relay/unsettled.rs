use std::collections::BTreeSet;

use crate::lease::LeaseToken;

/// The messages that a relay has claimed and not settled, by their tokens.
///
/// While a settlement is under way a claim may bring a message that it has put back already, under
/// the same token: it is then held again, and the settlement is known to have taken effect.
#[derive(Default)]
pub(super) struct Unsettled {
    held: BTreeSet<LeaseToken>,
    claimed_again: BTreeSet<LeaseToken>,
}

impl Unsettled {
    pub(super) fn claimed(&mut self, token: LeaseToken) {
        if !self.held.insert(token) {
            self.claimed_again.insert(token);
        }
    }

    /// A settlement of this token is answered, or the lease is lost.
    pub(super) fn settled(&mut self, token: LeaseToken) {
        if !self.claimed_again.remove(&token) {
            self.held.remove(&token);
        }
    }

    /// Whether the settlement under way has taken effect, whatever its answer was: repeating it
    /// would settle the next attempt.
    pub(super) fn was_claimed_again(&self, token: LeaseToken) -> bool {
        self.claimed_again.contains(&token)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn tokens(&self) -> Vec<LeaseToken> {
        self.held.iter().copied().collect()
    }
}
