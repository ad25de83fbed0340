//! New messages on their way into the table, a statement's worth at a time.

use outbox_core::id::MessageId;
use outbox_core::message::NewMessage;
use outbox_core::time::Timestamp;

use crate::codec::jsonb::Object;
use outbox_core::packed::body::Parts;

/// The most rows that one statement inserts.
const STATEMENT_ROWS: usize = 1_000;
/// About the most bytes that one statement inserts; a single larger row still goes.
const STATEMENT_BYTES: usize = 4 << 20;

/// One message with what append gives it.
#[derive(Clone, Copy)]
pub(super) struct Draft<'a> {
    pub(super) id: MessageId,
    pub(super) now: Timestamp,
    /// When it is due; what is due in the past is due now.
    pub(super) due_at: Timestamp,
    topic: &'a str,
    pub(super) ordering_key: Option<&'a str>,
    pub(super) idempotency_key: Option<&'a str>,
    content: Content<'a>,
}

/// What the body is made of.
#[derive(Clone, Copy)]
enum Content<'a> {
    Message(&'a NewMessage),
    Packed(&'a [u8]),
}

impl<'a> Draft<'a> {
    pub(super) fn new(message: &'a NewMessage, id: MessageId, now: Timestamp) -> Self {
        Self {
            id,
            now,
            due_at: message.due_at.map_or(now, |due| due.max(now)),
            topic: &message.topic,
            ordering_key: message.ordering_key.as_deref(),
            idempotency_key: message.idempotency_key.as_deref(),
            content: Content::Message(message),
        }
    }

    /// About how many bytes the body takes; never far below.
    pub(super) fn size_hint(&self) -> usize {
        match self.content {
            Content::Message(message) => Parts::appended(message, self.id, self.now).size_hint(),
            Content::Packed(body) => body.len(),
        }
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        match self.content {
            Content::Message(message) => Parts::appended(message, self.id, self.now).write(out),
            Content::Packed(body) => out.extend_from_slice(body),
        }
    }

    /// The packed body.
    pub(super) fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.size_hint());
        self.write_body(&mut body);
        body
    }

    /// Whether its due time is to come.
    pub(super) fn waits(&self) -> bool {
        self.due_at > self.now
    }

    /// Whether all that SQL has to know of it is its id.
    fn is_plain(&self) -> bool {
        self.ordering_key.is_none() && !self.waits()
    }

    /// The topic where SQL has to know it.
    pub(super) fn waiting_topic(&self) -> Option<&'a str> {
        self.waits().then_some(self.topic)
    }

    /// The id, whether it waits, when it is due, its topic if it waits, and its key if it has one.
    fn label(&self, out: &mut Vec<u8>) {
        let topic = self.waiting_topic().unwrap_or_default();
        let due_at = self.due_at.as_micros();
        out.extend_from_slice(self.id.as_bytes());
        out.push(if self.waits() { b'1' } else { b'0' });
        out.push(if due_at < 0 { b'-' } else { b'+' });
        put_digits::<19>(out, due_at.unsigned_abs());
        put_digits::<10>(out, topic.len() as u64);
        out.extend_from_slice(topic.as_bytes());
        match self.ordering_key {
            None => out.push(b'-'),
            Some(key) => {
                out.push(b'+');
                out.extend_from_slice(key.as_bytes());
            }
        }
    }
}

/// A draft that outlives its caller's messages.
pub(super) struct Packed {
    id: MessageId,
    now: Timestamp,
    due_at: Timestamp,
    /// Empty where SQL does not have to know it.
    topic: String,
    ordering_key: Option<String>,
    idempotency_key: Option<String>,
    body: Vec<u8>,
}

impl Packed {
    pub(super) fn of(draft: &Draft<'_>) -> Self {
        Self {
            id: draft.id,
            now: draft.now,
            due_at: draft.due_at,
            topic: draft.waiting_topic().unwrap_or_default().to_owned(),
            ordering_key: draft.ordering_key.map(str::to_owned),
            idempotency_key: draft.idempotency_key.map(str::to_owned),
            body: draft.body(),
        }
    }

    pub(super) fn draft(&self) -> Draft<'_> {
        Draft {
            id: self.id,
            now: self.now,
            due_at: self.due_at,
            topic: &self.topic,
            ordering_key: self.ordering_key.as_deref(),
            idempotency_key: self.idempotency_key.as_deref(),
            content: Content::Packed(&self.body),
        }
    }
}

fn put_digits<const N: usize>(out: &mut Vec<u8>, number: u64) {
    let mut digits = [b'0'; N];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(&digits);
}

/// A batch in which every row is plain: labels are ids.
const INSERT_PLAIN: &str = "INSERT INTO outbox_messages (id, due_at, body) \
    SELECT CAST(key AS BLOB), $2, CAST(value AS BLOB) FROM json_each($1)";

/// Any batch; see [`Draft::label`]. The subqueries with a LIMIT are there so that SQLite takes each
/// label apart once, not once a column.
const INSERT: &str = "INSERT INTO outbox_messages (id, state, due_at, topic, ordering_key, body) \
    SELECT substr(label, 1, 16), CAST(substr(label, 17, 1) AS INTEGER), \
        CAST(substr(label, 18, 20) AS INTEGER), \
        iif(length > 0, CAST(substr(label, 48, length) AS TEXT), NULL), \
        iif(substr(label, 48 + length, 1) = x'2b', \
            CAST(substr(label, 49 + length) AS TEXT), NULL), \
        CAST(body AS BLOB) \
    FROM (SELECT label, CAST(substr(label, 38, 10) AS INTEGER) AS length, body \
        FROM (SELECT CAST(key AS BLOB) AS label, value AS body FROM json_each($1) \
            LIMIT -1 OFFSET 0) \
        LIMIT -1 OFFSET 0)";

/// One statement's worth of rows, ready to be bound.
pub(super) struct Statement {
    pub(super) sql: &'static str,
    pub(super) rows: Vec<u8>,
    pub(super) due_at: Timestamp,
}

/// Packs the first rows of `drafts` for one statement, and answers how many it took.
pub(super) fn pack(drafts: &[Draft<'_>]) -> (Statement, usize) {
    let mut bytes = 0;
    let count = drafts
        .iter()
        .take(STATEMENT_ROWS)
        .take_while(|draft| {
            let fits = bytes == 0 || bytes < STATEMENT_BYTES;
            bytes += draft.size_hint();
            fits
        })
        .count();
    let drafts = &drafts[..count];
    let plain = drafts.iter().all(Draft::is_plain);
    let mut rows = Object::with_capacity(bytes + count * 64);
    for draft in drafts {
        let label = |out: &mut Vec<u8>| match plain {
            true => out.extend_from_slice(draft.id.as_bytes()),
            false => draft.label(out),
        };
        rows.entry(label, |out| draft.write_body(out));
    }
    let statement = Statement {
        sql: if plain { INSERT_PLAIN } else { INSERT },
        rows: rows.into_bytes(),
        due_at: drafts.first().map_or(Timestamp::EPOCH, |draft| draft.now),
    };
    (statement, count)
}

/// Whether one statement takes all of `drafts`.
pub(super) fn fit_one_statement(drafts: &[Draft<'_>]) -> bool {
    drafts.len() <= STATEMENT_ROWS
        && drafts.iter().map(Draft::size_hint).sum::<usize>() < STATEMENT_BYTES
}
