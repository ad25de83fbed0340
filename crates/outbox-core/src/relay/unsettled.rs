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
    /// Those claimed since the extension under way began.
    since_extension: BTreeSet<LeaseToken>,
    /// Those in `held` whose lease was found lost; their calls are still under way.
    lost: BTreeSet<LeaseToken>,
}

impl Unsettled {
    pub(super) fn claimed(&mut self, token: LeaseToken, extending: bool) {
        if extending {
            self.since_extension.insert(token);
        }
        self.lost.remove(&token);
        if !self.held.insert(token) {
            self.claimed_again.insert(token);
        }
    }

    /// A settlement of this token is answered, or the lease is lost.
    pub(super) fn settled(&mut self, token: LeaseToken) {
        if !self.claimed_again.remove(&token) {
            self.held.remove(&token);
            self.lost.remove(&token);
        }
    }

    /// Whether the settlement under way has taken effect, whatever its answer was: repeating it
    /// would settle the next attempt.
    pub(super) fn was_claimed_again(&self, token: LeaseToken) -> bool {
        self.claimed_again.contains(&token)
    }

    /// Of the tokens that an extension tells as lost, those that are: one that was claimed meanwhile
    /// may have been back in the outbox when the extension looked, and one that was settled meanwhile
    /// had left it. They are not extended again.
    pub(super) fn surely(&mut self, lost: Vec<LeaseToken>) -> BTreeSet<LeaseToken> {
        let since = std::mem::take(&mut self.since_extension);
        let surely = |token: &LeaseToken| self.held.contains(token) && !since.contains(token);
        let lost: BTreeSet<_> = lost.into_iter().filter(surely).collect();
        self.lost.extend(&lost);
        lost
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether there is any whose lease is not known to be lost.
    pub(super) fn has_live(&self) -> bool {
        self.held.len() > self.lost.len()
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// All whose lease is not known to be lost, for an extension that begins now.
    pub(super) fn begin_extension(&mut self) -> Vec<LeaseToken> {
        self.since_extension.clear();
        self.held.difference(&self.lost).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::{Epoch, Sequence};

    #[test]
    fn what_is_claimed_while_an_extension_is_under_way_is_not_lost_by_it() {
        let token = |sequence| LeaseToken {
            sequence: Sequence(sequence),
            epoch: Epoch(1),
        };
        let mut unsettled = Unsettled::default();
        unsettled.claimed(token(1), false);
        unsettled.claimed(token(2), false);
        assert_eq!(unsettled.begin_extension().len(), 2);
        // The first is settled meanwhile, and the second put back and claimed again.
        unsettled.settled(token(1));
        unsettled.settled(token(2));
        unsettled.claimed(token(2), true);
        assert!(unsettled.surely(vec![token(1), token(2)]).is_empty());
        assert_eq!(unsettled.begin_extension(), [token(2)]);
        assert_eq!(unsettled.surely(vec![token(2)]), BTreeSet::from([token(2)]));
        assert!(!unsettled.has_live() && !unsettled.is_empty());
    }
}
