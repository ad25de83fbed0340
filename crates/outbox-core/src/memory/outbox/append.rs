use std::collections::{HashMap, HashSet};

use super::state::{Row, State};
use crate::error::{OutboxError, Result, Transience};
use crate::id::{Entropy, MessageId};
use crate::lease::Sequence;
use crate::message::{Message, NewMessage};
use crate::report::Appended;
use crate::time::Timestamp;

/// Messages that a transaction has appended and that nobody else sees yet.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    messages: Vec<Draft>,
    ids: HashSet<MessageId>,
    keys: HashMap<String, MessageId>,
}

#[derive(Debug)]
struct Draft {
    message: Message,
    idempotency_key: Option<String>,
}

impl Drafts {
    /// Adds `new` unless `state` or this transaction has it already.
    pub(super) fn add(
        &mut self,
        state: &State,
        new: &NewMessage,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Appended {
        if let Some(id) = self.first_of(state, new) {
            return Appended {
                id,
                duplicate: true,
            };
        }
        let id = new.id.unwrap_or_else(|| MessageId::new(now, entropy));
        self.ids.insert(id);
        if let Some(key) = &new.idempotency_key {
            self.keys.insert(key.clone(), id);
        }
        self.messages.push(Draft {
            message: Message::appended(new, id, now),
            idempotency_key: new.idempotency_key.clone(),
        });
        Appended {
            id,
            duplicate: false,
        }
    }

    /// The message that `new` repeats, by its idempotency key or by its id.
    fn first_of(&self, state: &State, new: &NewMessage) -> Option<MessageId> {
        let key = new.idempotency_key.as_ref();
        let by_key = key.and_then(|key| {
            let committed = state.keys.get(key).map(|(id, _)| *id);
            committed.or_else(|| self.keys.get(key).copied())
        });
        let known = |id: &MessageId| state.ids.contains(id) || self.ids.contains(id);
        by_key.or_else(|| new.id.filter(known))
    }
}

impl State {
    /// Gives `drafts` their places and makes them visible; answers how many there were.
    ///
    /// Two open transactions may have drafted the same key: the first to commit wins, and the other
    /// appends nothing.
    pub(super) fn commit(&mut self, drafts: Drafts) -> Result<usize> {
        let taken = drafts.keys.keys().any(|key| self.keys.contains_key(key));
        if taken || !drafts.ids.is_disjoint(&self.ids) {
            return Err(OutboxError::Backend {
                backend: "memory",
                operation: "commit",
                transience: Transience::Transient,
                source: "another transaction has committed the same key or id".into(),
            });
        }
        let added = drafts.messages.len();
        for draft in drafts.messages {
            self.insert(draft);
        }
        Ok(added)
    }

    fn insert(&mut self, draft: Draft) {
        let Draft {
            mut message,
            idempotency_key,
        } = draft;
        self.last_sequence += 1;
        message.sequence = Sequence(self.last_sequence);
        self.ids.insert(message.id);
        if let Some(key) = idempotency_key {
            self.keys.insert(key, (message.id, message.created_at));
        }
        let waits_until = Some(message.due_at).filter(|due_at| *due_at > message.created_at);
        let row = Row::untried(message, waits_until);
        self.rows.insert(row.message.sequence, row);
    }
}
