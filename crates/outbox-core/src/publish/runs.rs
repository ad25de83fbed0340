use std::borrow::Cow;
use std::collections::HashSet;

use crate::error::PublishError;
use crate::message::Message;
use crate::ports::Publisher;

/// What a publisher answers for one message.
pub(super) type Answer = Result<(), PublishError>;

/// The ordering keys of which a message failed in this call.
#[derive(Default)]
pub(super) struct HeldKeys<'m>(HashSet<&'m str>);

impl<'m> HeldKeys<'m> {
    /// Whether `message` is behind a failed one of its key.
    pub(super) fn holds(&self, message: &Message) -> bool {
        let key = message.ordering_key.as_deref();
        key.is_some_and(|key| self.0.contains(key))
    }

    /// Notes what became of `message`.
    pub(super) fn note(&mut self, message: &'m Message, answer: &Answer) {
        if let (Some(key), Err(_)) = (message.ordering_key.as_deref(), answer) {
            self.0.insert(key);
        }
    }
}

/// The messages whose place is wanted; nothing is copied where all are.
pub(super) fn select(messages: &[Message], wanted: impl Fn(usize) -> bool) -> Cow<'_, [Message]> {
    if (0..messages.len()).all(&wanted) {
        return Cow::Borrowed(messages);
    }
    let chosen = messages.iter().enumerate();
    let chosen = chosen.filter(|(place, _)| wanted(*place));
    Cow::Owned(chosen.map(|(_, message)| message.clone()).collect())
}

/// Publishes each message to the publisher that `pick` names, in calls of one destination each.
///
/// Calls follow one another in the order of the messages, and a message behind a failed one of its
/// key is held back, so that a key that crosses destinations keeps its order.
pub(super) async fn publish_runs<'p>(
    messages: &[Message],
    pick: impl Fn(&Message) -> &'p dyn Publisher,
) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(messages.len());
    let mut held = HeldKeys::default();
    for run in runs(messages, &pick) {
        let Some(first) = run.first() else { continue };
        let publisher = pick(first);
        let behind: Vec<bool> = run.iter().map(|message| held.holds(message)).collect();
        let free = select(run, |place| !behind[place]);
        let mut sent = send(publisher, &free).await.into_iter();
        for (message, behind) in run.iter().zip(behind) {
            let answer = match behind {
                true => Err(PublishError::HeldBack),
                false => sent.next().unwrap_or_else(|| Err(no_answer(publisher))),
            };
            held.note(message, &answer);
            answers.push(answer);
        }
    }
    answers
}

/// Splits `messages` where the publisher or its destination changes.
fn runs<'m, 'p>(
    messages: &'m [Message],
    pick: &impl Fn(&Message) -> &'p dyn Publisher,
) -> Vec<&'m [Message]> {
    let same = |a: &Message, b: &Message| {
        let (to_a, to_b) = (pick(a), pick(b));
        std::ptr::addr_eq(to_a, to_b) && to_a.destination(a) == to_b.destination(b)
    };
    messages.chunk_by(same).collect()
}

async fn send(publisher: &dyn Publisher, messages: &[Message]) -> Vec<Answer> {
    if messages.is_empty() {
        return Vec::new();
    }
    publisher.publish(messages).await
}

fn no_answer(publisher: &dyn Publisher) -> PublishError {
    let text = format!("publisher {} left a message unanswered", publisher.name());
    PublishError::failed(text)
}
