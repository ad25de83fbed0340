use bytes::Bytes;

use super::{Aggregate, Headers, Kind, MessageBody, NewMessage, RetryOverride};
use crate::error::{OutboxError, Result};
use crate::id::MessageId;
use crate::lease::{Epoch, Sequence};
use crate::time::Timestamp;

/// A message as it is stored and told: the same in every attempt, at every destination.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias = "OutboxEntry")]
#[doc(alias = "EventOutbox")]
#[doc(alias = "envelope")]
pub struct Message {
    /// The message's identity: what consumers deduplicate on.
    pub id: MessageId,
    /// Where the message goes.
    pub topic: String,
    /// What the message tells.
    pub kind: Kind,
    /// Messages with the same key are published in commit order.
    pub ordering_key: Option<String>,
    /// The body.
    pub payload: Bytes,
    /// What the payload is.
    pub content_type: String,
    /// Headers, as set at append.
    pub headers: Headers,
    /// The domain object that the message is about.
    pub aggregate: Option<Aggregate>,
    /// When the message was appended.
    pub created_at: Timestamp,
    /// When the message was to be published first.
    pub due_at: Timestamp,
    /// Retry settings of this message alone.
    pub retry: Option<RetryOverride>,
    /// The message's place in its outbox, in commit order; a sink may resume or refuse by it.
    pub sequence: Sequence,
    /// The fencing epoch of the relay that sends it; a sink refuses one lower than it has seen.
    pub epoch: Epoch,
}

impl Message {
    /// The message that `new` becomes when it is appended as `id` at `now`.
    #[must_use]
    pub fn appended(new: &NewMessage, id: MessageId, now: Timestamp) -> Self {
        Self {
            id,
            topic: new.topic.clone(),
            kind: new.kind.clone(),
            ordering_key: new.ordering_key.clone(),
            payload: new.payload.clone(),
            content_type: new.content_type.clone(),
            headers: new.headers.clone(),
            aggregate: new.aggregate.clone(),
            created_at: now,
            due_at: new.due_at.unwrap_or(now),
            retry: new.retry.clone(),
            sequence: Sequence::default(),
            epoch: Epoch::default(),
        }
    }

    /// The payload read as the JSON of `T`.
    ///
    /// # Errors
    /// [`OutboxError::Codec`] where the kind is not `T`'s or the payload is not its JSON.
    pub fn json<T: MessageBody>(&self) -> Result<T> {
        if self.kind.name != T::KIND {
            let found = format!("kind {} where {} was expected", self.kind, T::KIND);
            return Err(OutboxError::codec(format!("message {}", self.id), found));
        }
        serde_json::from_slice(&self.payload)
            .map_err(|e| OutboxError::codec(format!("payload of {} as {}", self.id, T::KIND), e))
    }
}
