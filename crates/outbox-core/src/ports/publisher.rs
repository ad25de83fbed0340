use std::borrow::Cow;

use async_trait::async_trait;

use crate::error::PublishError;
use crate::message::Message;
use crate::signal::Wake;
use crate::status::Ordering;

/// A destination that messages are published to.
///
/// # Contract
/// - One result for each message, in their order; partial failure is normal.
/// - `Ok` means that the destination has the message durably, by its own standard; nothing is
///   answered on faith.
/// - Where [`Publisher::ordering`] is `PerKey` or `Commit`, no message is sent after a failed one of
///   the same key in the same call: it is answered [`PublishError::HeldBack`].
/// - [`PublishError::Unavailable`] costs a message no attempt; where it names the time to wait, the
///   destination is asked again after that time, which repeating does not lengthen, and at once
///   where [`Publisher::rooms`] gives its signal; [`PublishError::Refused`] sends it to
///   quarantine at once.
///
/// # Cancel safety
/// A dropped call may have sent any of its messages.
#[async_trait]
#[doc(alias = "EventPublisher")]
#[doc(alias = "CustomPublisher")]
pub trait Publisher: Send + Sync {
    /// The publisher's name, for breakers, metrics and failure records; stable over its life.
    #[doc(alias = "GetName")]
    fn name(&self) -> &str;

    /// The destination that `message` goes to. Each destination has a breaker and a lane of its own,
    /// so that a dead one holds up no other; the publisher's name where it has but one.
    fn destination<'a>(&'a self, message: &'a Message) -> Cow<'a, str> {
        let _ = message;
        Cow::Borrowed(self.name())
    }

    /// Whether [`Publisher::destination`] depends on the message. Where it does, messages to a
    /// destination that takes nothing are set aside so that the others flow; where it does not, the
    /// relay simply waits. `false` by default.
    fn routes(&self) -> bool {
        false
    }

    /// For destinations that can tell: their name, and the signal that one which took nothing may
    /// take something again. None by default: then only time tells.
    fn rooms(&self) -> Vec<(String, Wake)> {
        Vec::new()
    }

    /// How strongly one call keeps the order of its messages.
    fn ordering(&self) -> Ordering;

    /// How many calls to one destination may be under way at once that rely on each other; 1 by
    /// default: the relay waits for each. A publisher that answers more, and keeps the order of keys,
    /// takes nothing of a call unless all of the calls that were begun before it, and are still under
    /// way, is taken; the rest is answered [`PublishError::Unavailable`]. The relay makes use of it only
    /// where its `concurrency` is 1, for full batches, and as long as the destination is well.
    fn pipeline_depth(&self) -> usize {
        1
    }

    /// Publishes `messages`, all of one destination, and answers one result for each.
    #[doc(alias = "Publish")]
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>>;
}
