//! A message as an entry keeps it: its sequence and epoch in the outbox that it came from, and then
//! the packed body.

use crate::lease::{Epoch, Sequence};
use crate::message::Message;
use bytes::Bytes;

use super::Damage;
use super::body::{self, Parts};

/// The bytes before the body.
const HEAD: usize = 16;

/// About how many bytes the frame of `message` takes; never far below.
#[must_use]
pub fn size_hint(message: &Message) -> usize {
    HEAD + Parts::stored(message).size_hint()
}

/// Appends the frame of `message` to `out`.
pub fn write(message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(&message.sequence.0.to_le_bytes());
    out.extend_from_slice(&message.epoch.0.to_le_bytes());
    Parts::stored(message).write(out);
}

/// Splits the first frame off `bytes`, which may hold more of them.
///
/// # Errors
/// Where they begin with no frame.
pub fn split_first(bytes: &mut Bytes) -> Result<Bytes, Damage> {
    let mut rest = bytes.clone();
    if rest.len() < HEAD {
        return Err(Damage::Short);
    }
    let _ = rest.split_to(HEAD);
    let body = body::split_first(&mut rest)?;
    Ok(bytes.split_to(HEAD + body.len()))
}

/// The message in `frame`; its payload shares the memory.
///
/// # Errors
/// Where the bytes are not a frame.
pub fn read(frame: &Bytes) -> Result<Message, Damage> {
    let (sequence, rest) = frame.split_first_chunk::<8>().ok_or(Damage::Short)?;
    let epoch = rest.first_chunk::<8>().ok_or(Damage::Short)?;
    let mut message = body::read(&frame.slice(HEAD..))?;
    message.sequence = Sequence(u64::from_le_bytes(*sequence));
    message.epoch = Epoch(u64::from_le_bytes(*epoch));
    Ok(message)
}

#[cfg(test)]
mod tests {
    use crate::id::MessageId;
    use crate::message::NewMessage;
    use crate::time::Timestamp;

    use super::*;

    fn message(number: u8) -> Message {
        let new = NewMessage::new("t", vec![number; usize::from(number)]);
        let id = MessageId::from_bytes([number; 16]);
        Message {
            sequence: Sequence(u64::MAX - u64::from(number)),
            epoch: Epoch(u64::from(number)),
            ..Message::appended(&new, id, Timestamp::EPOCH)
        }
    }

    #[test]
    fn frames_in_a_row_are_told_apart_and_read() {
        let mut all = Vec::new();
        (0..5).for_each(|number| write(&message(number), &mut all));
        let mut rest = Bytes::from(all);
        for number in 0..5 {
            let frame = split_first(&mut rest).unwrap();
            assert_eq!(read(&frame), Ok(message(number)));
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_cut_frame_is_an_error() {
        let mut whole = Vec::new();
        write(&message(3), &mut whole);
        let whole = Bytes::from(whole);
        for length in 0..whole.len() {
            let mut cut = whole.slice(..length);
            assert!(read(&cut).is_err(), "{length}");
            assert!(split_first(&mut cut).is_err(), "{length}");
        }
    }
}
