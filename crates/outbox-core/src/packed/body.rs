//! A message as one packed, self-delimiting run of bytes.
//!
//! ```text
//! total length u32 | format u8 | id 16 | created i64 | due i64 | topic | ordering key? | kind
//! | kind version u32 | content type | headers | flags u8 | aggregate? | retry? | payload to the end
//! ```
//! Numbers are little-endian; the total length counts itself.
use crate::id::MessageId;
use crate::lease::{Epoch, Sequence};
use crate::message::{Aggregate, Headers, Kind, Message, NewMessage, RetryOverride};
use crate::time::Timestamp;
use bytes::Bytes;

use super::bytes::{Cursor, Damage, put_duration, put_length, put_optional_text, put_text};

/// The format that is written.
const FORMAT: u8 = 1;
/// The bytes before the topic.
const FIXED: usize = 4 + 1 + 16 + 8 + 8;
const AGGREGATE: u8 = 1;
const RETRY: u8 = 2;
const MAX_ATTEMPTS: u8 = 4;
const BASE: u8 = 8;
const CAP: u8 = 16;
const KNOWN_FLAGS: u8 = AGGREGATE | RETRY | MAX_ATTEMPTS | BASE | CAP;

/// What a body is written from: a new message with what append gives it, or a stored one.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The message's id.
    pub id: MessageId,
    /// When it was appended.
    pub created_at: Timestamp,
    /// When it is due.
    pub due_at: Timestamp,
    /// Its topic.
    pub topic: &'a str,
    /// Its ordering key.
    pub ordering_key: Option<&'a str>,
    kind: &'a Kind,
    content_type: &'a str,
    headers: &'a Headers,
    aggregate: Option<&'a Aggregate>,
    retry: Option<&'a RetryOverride>,
    payload: &'a [u8],
}

impl<'a> Parts<'a> {
    /// The parts of `message`, appended as `id` at `now`.
    #[must_use]
    pub fn appended(message: &'a NewMessage, id: MessageId, now: Timestamp) -> Self {
        Self {
            id,
            created_at: now,
            due_at: message.due_at.unwrap_or(now),
            topic: &message.topic,
            ordering_key: message.ordering_key.as_deref(),
            kind: &message.kind,
            content_type: &message.content_type,
            headers: &message.headers,
            aggregate: message.aggregate.as_ref(),
            retry: message.retry.as_ref(),
            payload: &message.payload,
        }
    }

    /// The parts of `message`; its sequence and epoch are no part of a body.
    #[must_use]
    pub fn stored(message: &'a Message) -> Self {
        Self {
            id: message.id,
            created_at: message.created_at,
            due_at: message.due_at,
            topic: &message.topic,
            ordering_key: message.ordering_key.as_deref(),
            kind: &message.kind,
            content_type: &message.content_type,
            headers: &message.headers,
            aggregate: message.aggregate.as_ref(),
            retry: message.retry.as_ref(),
            payload: &message.payload,
        }
    }

    /// About how many bytes the body takes; never far below.
    #[must_use]
    pub fn size_hint(&self) -> usize {
        let headers = self.headers.size_hint();
        let key = self.ordering_key.map_or(0, str::len);
        FIXED + 64 + self.topic.len() + key + headers + self.payload.len()
    }

    /// Appends the body to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.push(FORMAT);
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.created_at.as_micros().to_le_bytes());
        out.extend_from_slice(&self.due_at.as_micros().to_le_bytes());
        put_text(out, self.topic);
        put_optional_text(out, self.ordering_key);
        put_text(out, &self.kind.name);
        out.extend_from_slice(&self.kind.version.to_le_bytes());
        put_text(out, self.content_type);
        put_length(out, self.headers.len());
        for (name, value) in self.headers.iter() {
            put_text(out, name);
            put_text(out, value);
        }
        self.write_extras(out);
        out.extend_from_slice(self.payload);
        let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn write_extras(&self, out: &mut Vec<u8>) {
        out.push(self.flags());
        if let Some(aggregate) = self.aggregate {
            put_text(out, &aggregate.type_name);
            put_text(out, &aggregate.id);
            out.extend_from_slice(&aggregate.version.to_le_bytes());
        }
        let Some(retry) = self.retry else { return };
        if let Some(attempts) = retry.max_attempts {
            out.extend_from_slice(&attempts.to_le_bytes());
        }
        for delay in [retry.base, retry.cap].into_iter().flatten() {
            put_duration(out, delay);
        }
    }

    fn flags(&self) -> u8 {
        let retry = self.retry;
        let flag = |present: bool, flag: u8| if present { flag } else { 0 };
        flag(self.aggregate.is_some(), AGGREGATE)
            | flag(retry.is_some(), RETRY)
            | flag(
                retry.is_some_and(|r| r.max_attempts.is_some()),
                MAX_ATTEMPTS,
            )
            | flag(retry.is_some_and(|r| r.base.is_some()), BASE)
            | flag(retry.is_some_and(|r| r.cap.is_some()), CAP)
    }
}

/// Splits the first body off `bytes`, which may hold more of them.
///
/// # Errors
/// Where they begin with no body.
pub fn split_first(bytes: &mut Bytes) -> Result<Bytes, Damage> {
    let announced = bytes.first_chunk::<4>().ok_or(Damage::Short)?;
    let length = u32::from_le_bytes(*announced) as usize;
    if length < FIXED || length > bytes.len() {
        return Err(Damage::Length);
    }
    Ok(bytes.split_to(length))
}

/// The message in `body`; its payload shares the body's memory. Its place in the outbox is not in
/// the body: the row knows it.
///
/// # Errors
/// Where the bytes are not a body.
pub fn read(body: &Bytes) -> Result<Message, Damage> {
    let mut cursor = Cursor(body);
    let announced = u32::from_le_bytes(cursor.array()?) as usize;
    if announced != body.len() {
        return Err(Damage::Length);
    }
    let format = cursor.byte()?;
    if format != FORMAT {
        return Err(Damage::Format(format));
    }
    let mut message = read_fields(&mut cursor)?;
    message.payload = body.slice(body.len() - cursor.0.len()..);
    Ok(message)
}

fn read_fields(cursor: &mut Cursor<'_>) -> Result<Message, Damage> {
    let id = MessageId::from_bytes(cursor.array()?);
    let created_at = read_moment(cursor)?;
    let due_at = read_moment(cursor)?;
    let topic = cursor.text()?;
    let ordering_key = cursor.optional_text()?;
    let kind = Kind {
        name: cursor.text()?,
        version: u32::from_le_bytes(cursor.array()?),
    };
    let content_type = cursor.text()?;
    let headers = read_headers(cursor)?;
    let flags = cursor.byte()?;
    if flags & !KNOWN_FLAGS != 0 {
        return Err(Damage::Value("flag"));
    }
    Ok(Message {
        id,
        topic,
        kind,
        ordering_key,
        payload: Bytes::new(),
        content_type,
        headers,
        aggregate: read_aggregate(cursor, flags)?,
        created_at,
        due_at,
        retry: read_retry(cursor, flags)?,
        sequence: Sequence::default(),
        epoch: Epoch::default(),
    })
}

fn read_moment(cursor: &mut Cursor<'_>) -> Result<Timestamp, Damage> {
    Ok(Timestamp::from_micros(i64::from_le_bytes(cursor.array()?)))
}

fn read_headers(cursor: &mut Cursor<'_>) -> Result<Headers, Damage> {
    let count = cursor.length()?;
    // Each header takes two bytes at least: a count beyond that is damage, and allocates nothing.
    if count > cursor.0.len() / 2 {
        return Err(Damage::Value("number of headers"));
    }
    // As long as they are here, or a little longer.
    let mut headers = Headers::with_capacity(cursor.bytes_of(2 * count)? + count);
    for _ in 0..count {
        headers.set(cursor.str()?, cursor.str()?);
    }
    Ok(headers)
}

fn read_aggregate(cursor: &mut Cursor<'_>, flags: u8) -> Result<Option<Aggregate>, Damage> {
    if flags & AGGREGATE == 0 {
        return Ok(None);
    }
    Ok(Some(Aggregate {
        type_name: cursor.text()?,
        id: cursor.text()?,
        version: u64::from_le_bytes(cursor.array()?),
    }))
}

fn read_retry(cursor: &mut Cursor<'_>, flags: u8) -> Result<Option<RetryOverride>, Damage> {
    if flags & RETRY == 0 {
        return Ok(None);
    }
    let mut retry = RetryOverride::default();
    if flags & MAX_ATTEMPTS != 0 {
        retry.max_attempts = Some(u32::from_le_bytes(cursor.array()?));
    }
    if flags & BASE != 0 {
        retry.base = Some(cursor.duration()?);
    }
    if flags & CAP != 0 {
        retry.cap = Some(cursor.duration()?);
    }
    Ok(Some(retry))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn written(message: &Message) -> Bytes {
        let mut out = Vec::new();
        Parts::stored(message).write(&mut out);
        Bytes::from(out)
    }

    fn text() -> impl Strategy<Value = String> {
        ".{0,9}"
    }

    fn duration() -> impl Strategy<Value = Duration> {
        (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(s, n)| Duration::new(s, n))
    }

    fn retry() -> impl Strategy<Value = RetryOverride> {
        let delay = || proptest::option::of(duration());
        (any::<Option<u32>>(), delay(), delay()).prop_map(|(max_attempts, base, cap)| {
            RetryOverride {
                max_attempts,
                base,
                cap,
            }
        })
    }

    fn aggregate() -> impl Strategy<Value = Aggregate> {
        (text(), text(), any::<u64>()).prop_map(|(type_name, id, version)| Aggregate {
            type_name,
            id,
            version,
        })
    }

    prop_compose! {
        fn message()(
            id in any::<[u8; 16]>(),
            texts in (text(), text(), text()),
            ordering_key in proptest::option::of(text()),
            version in any::<u32>(),
            headers in proptest::collection::vec((text(), text()), 0..4),
            moments in any::<(i64, i64)>(),
            aggregate in proptest::option::of(aggregate()),
            retry in proptest::option::of(retry()),
            payload in proptest::collection::vec(any::<u8>(), 0..40),
        ) -> Message {
            Message {
                id: MessageId::from_bytes(id),
                topic: texts.0,
                kind: Kind { name: texts.1, version },
                ordering_key,
                payload: payload.into(),
                content_type: texts.2,
                headers: headers.into_iter().collect(),
                aggregate,
                created_at: Timestamp::from_micros(moments.0),
                due_at: Timestamp::from_micros(moments.1),
                retry,
                sequence: Sequence::default(),
                epoch: Epoch::default(),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(message in message()) {
            prop_assert_eq!(read(&written(&message)), Ok(message));
        }

        #[test]
        fn bodies_in_a_row_are_told_apart(messages in proptest::collection::vec(message(), 0..5)) {
            let mut all = Vec::new();
            for message in &messages {
                Parts::stored(message).write(&mut all);
            }
            let mut rest = Bytes::from(all);
            for message in messages {
                let body = split_first(&mut rest).unwrap();
                prop_assert_eq!(read(&body), Ok(message));
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in any::<Vec<u8>>()) {
            let mut bytes = Bytes::from(bytes);
            let _ = read(&bytes);
            let _ = split_first(&mut bytes);
        }

        #[test]
        fn a_body_with_a_changed_byte_is_a_message_or_an_error(
            message in message(), place in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = written(&message).to_vec();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            let _ = read(&Bytes::from(bytes));
        }

        #[test]
        fn a_cut_body_is_an_error(message in message(), cut in any::<prop::sample::Index>()) {
            let bytes = written(&message);
            let cut = cut.index(bytes.len());
            prop_assert!(read(&bytes.slice(..cut)).is_err());
        }
    }

    #[test]
    fn a_missing_key_is_not_an_empty_one() {
        let id = MessageId::from_bytes([7; 16]);
        for key in [None, Some(""), Some("k")] {
            let mut new = NewMessage::new("t", "x");
            new.ordering_key = key.map(str::to_owned);
            let mut out = Vec::new();
            Parts::appended(&new, id, Timestamp::EPOCH).write(&mut out);
            assert_eq!(read(&out.into()).unwrap().ordering_key.as_deref(), key);
        }
    }

    #[test]
    fn an_unknown_format_says_so() {
        let message = Message::appended(
            &NewMessage::new("t", ""),
            MessageId::from_bytes([0; 16]),
            Timestamp::EPOCH,
        );
        let mut bytes = written(&message).to_vec();
        bytes[4] = 9;
        assert_eq!(read(&bytes.into()), Err(Damage::Format(9)));
    }
}
