//! What goes to the server in one script.

use bytes::Bytes;
use outbox_core::message::Message;
use outbox_core::packed::frame;

/// The most messages in one script: larger batches gain nothing, and others have to wait.
const BATCH: usize = 500;

/// About the most bytes in one script, for the same reason.
const BATCH_BYTES: usize = 4 << 20;

/// As many of `messages` as go into one script; at least one.
pub(crate) fn first_batch(messages: &[Message]) -> &[Message] {
    let mut bytes = 0;
    let fits = |message: &&Message| {
        bytes += frame::size_hint(message);
        bytes <= BATCH_BYTES
    };
    let count = messages.iter().take(BATCH).take_while(fits).count();
    &messages[..count.max(1).min(messages.len())]
}

/// The frames of `messages`, in one piece of memory.
pub(crate) fn frames(messages: &[Message]) -> Vec<Bytes> {
    let mut packed = Vec::with_capacity(messages.iter().map(frame::size_hint).sum());
    let mut ends = Vec::with_capacity(messages.len());
    for message in messages {
        frame::write(message, &mut packed);
        ends.push(packed.len());
    }
    let mut rest = Bytes::from(packed);
    let mut start = 0;
    let cut = |end: usize| {
        let frame = rest.split_to(end - start);
        start = end;
        frame
    };
    ends.into_iter().map(cut).collect()
}
