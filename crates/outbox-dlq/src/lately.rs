use std::collections::HashSet;
use std::mem;
use std::sync::{Mutex, PoisonError};

use outbox_core::id::MessageId;

/// How many messages a generation has.
const GENERATION: usize = 8_192;

/// Which messages failed lately: of the last 8,192 at least, and of no more than twice as many.
#[derive(Debug, Default)]
pub(crate) struct Lately(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashSet<MessageId>,
    old: HashSet<MessageId>,
}

impl Lately {
    /// Notes that these failed.
    pub(crate) fn note(&self, ids: impl IntoIterator<Item = MessageId>) {
        self.with(|generations| {
            for id in ids {
                if generations.young.len() == GENERATION {
                    generations.old = mem::take(&mut generations.young);
                }
                generations.young.insert(id);
            }
        });
    }

    /// Forgets one; whether it had failed.
    pub(crate) fn take(&self, id: MessageId) -> bool {
        self.with(|generations| generations.young.remove(&id) | generations.old.remove(&id))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Generations) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> MessageId {
        MessageId::from_bytes((number as u128).to_be_bytes())
    }

    #[test]
    fn what_failed_is_known_once_and_not_for_ever() {
        let lately = Lately::default();
        lately.note((0..3 * GENERATION).map(id));
        assert!(!lately.take(id(0)), "too long ago");
        let last = id(3 * GENERATION - 1);
        assert!(lately.take(last) && !lately.take(last));
        assert!(lately.take(id(2 * GENERATION)));
        lately.with(|two| assert!(two.young.len() + two.old.len() <= 2 * GENERATION));
    }
}
