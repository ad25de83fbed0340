//! Puts messages back where they came from: into the outbox as rows that are due, into a queue as
//! entries that were given back.

use std::collections::{HashMap, HashSet};

use outbox_core::id::MessageId;
use outbox_core::message::Message;
use outbox_core::packed::body::Parts;
use outbox_core::packed::frame;
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;
use outbox_dlq::{Attempts, DeadLetter, Origin};
use serde::Serialize;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::letter::{Stored, hex};
use super::move_out::id;
use crate::codec::jsonb::{self, Object};
use crate::error::Fault;
use crate::quarantine::json;
use crate::queue::span::Span;

/// What messages come from and go back to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Destination {
    Outbox,
    Queue {
        number: i64,
        span: Span,
        /// The place of the last entry.
        tail: i64,
        /// How many more fit.
        room: usize,
    },
}

pub(super) const FIND: &str = "\
    SELECT queue, tail, ifnull(max(high_water - depth, 0), 9223372036854775807) \
    FROM outbox_queues WHERE name = ?1";

impl Destination {
    /// What `origin` names in this file, where there is such a thing.
    pub(super) async fn of(
        connection: &mut SqliteConnection,
        origin: &Origin,
    ) -> Result<Option<Self>, Fault> {
        let Origin::Queue(name) = origin else {
            return Ok(Some(Self::Outbox));
        };
        let queue = sqlx::query(FIND).bind(name);
        let Some(row) = queue.fetch_optional(connection).await? else {
            return Ok(None);
        };
        let number = row.try_get(0)?;
        Ok(Some(Self::Queue {
            number,
            span: Span::of(number)?,
            tail: row.try_get(1)?,
            room: usize::try_from(row.try_get::<i64, _>(2)?).unwrap_or(usize::MAX),
        }))
    }

    /// How many more fit.
    pub(super) fn room(self) -> usize {
        match self {
            Self::Outbox => usize::MAX,
            Self::Queue { room, .. } => room,
        }
    }
}

pub(super) const IN_OUTBOX: &str = "SELECT id FROM outbox_messages \
    WHERE id IN (SELECT CAST(value AS BLOB) FROM json_each(?1))";

pub(super) const IN_QUEUE: &str = "\
    SELECT id FROM outbox_enqueued AS k \
    WHERE queue = ?2 AND id IN (SELECT CAST(value AS BLOB) FROM json_each(?1)) \
    AND (EXISTS (SELECT 1 FROM outbox_entries AS e WHERE e.place = k.place) \
        OR EXISTS (SELECT 1 FROM outbox_returned AS r WHERE r.place = k.place))";

/// Those of `letters` whose messages are at `destination` already, undelivered.
pub(super) async fn already_there(
    connection: &mut SqliteConnection,
    destination: Destination,
    letters: &[&Stored],
) -> Result<HashSet<MessageId>, Fault> {
    let messages = letters
        .iter()
        .filter_map(|stored| stored.letter.message.as_ref());
    let ids = jsonb::texts(messages.map(|message| &message.id.as_bytes()[..]));
    let query = match destination {
        Destination::Outbox => sqlx::query(IN_OUTBOX).bind(ids),
        Destination::Queue { number, .. } => sqlx::query(IN_QUEUE).bind(ids).bind(number),
    };
    let rows = query.fetch_all(connection).await?;
    rows.iter().map(id).collect()
}

pub(super) const TO_OUTBOX: &str = "\
    INSERT INTO outbox_messages (seq, id, state, due_at, topic, ordering_key, attempts, \
        first_failed_at, history, redrives, body) \
    SELECT key ->> 'number', unhex(key ->> 'id'), 1, ?2, key ->> 'topic', key ->> 'ordering_key', \
        key ->> 'attempts', key ->> 'first_failed_at', key ->> 'history', key ->> 'redrives', \
        CAST(value AS BLOB) \
    FROM json_each(?1)";

pub(super) const TO_QUEUE: &str = "\
    INSERT INTO outbox_returned (place, queue, due_at, enqueued_at, attempts, first_failed_at, \
        history, redrives, body) \
    SELECT key ->> 'number', ?3, ?2, ?2, key ->> 'attempts', key ->> 'first_failed_at', \
        key ->> 'history', key ->> 'redrives', CAST(value AS BLOB) \
    FROM json_each(?1)";

/// Forgets where entries of these messages lay, to remember where they lie now.
pub(super) const FORGET: &str = "\
    DELETE FROM outbox_enqueued \
    WHERE queue = ?1 AND id IN (SELECT CAST(value AS BLOB) FROM json_each(?2))";

pub(super) const REMEMBER: &str = "\
    INSERT INTO outbox_enqueued (place, queue, id, enqueued_at) \
    SELECT CAST(key AS INTEGER), ?1, CAST(value AS BLOB), ?3 FROM json_each(?2) WHERE true \
    ON CONFLICT (place) DO UPDATE SET id = excluded.id, enqueued_at = excluded.enqueued_at";

pub(super) const COUNT: &str =
    "UPDATE outbox_queues SET depth = depth + ?2, tail = max(tail, ?3) WHERE queue = ?1";

/// All but the body, as SQL reads it.
#[derive(Serialize)]
struct Label<'a> {
    number: Option<i64>,
    id: String,
    topic: &'a str,
    ordering_key: Option<&'a str>,
    attempts: u32,
    first_failed_at: Timestamp,
    history: &'a [AttemptRecord],
    redrives: u32,
}

impl<'a> Label<'a> {
    fn new(
        number: Option<i64>,
        (letter, message): (&'a DeadLetter, &'a Message),
        attempts: Attempts,
    ) -> Self {
        Self {
            number,
            id: hex(message.id.as_bytes()),
            topic: &message.topic,
            ordering_key: message.ordering_key.as_deref(),
            attempts: match attempts {
                Attempts::Reset => 0,
                Attempts::Keep => letter.attempts,
            },
            first_failed_at: letter.first_failed_at,
            history: &letter.history,
            redrives: letter.redrives.saturating_add(1),
        }
    }
}

/// Puts `letters` back, each of which has a message that is not at `destination`.
pub(super) async fn send_back(
    connection: &mut SqliteConnection,
    destination: Destination,
    letters: &[&Stored],
    (attempts, now): (Attempts, Timestamp),
) -> Result<(), Fault> {
    let mut rows = Object::with_capacity(letters.len() * 1_024);
    let mut places = Places::of(destination);
    for stored in letters {
        let Some(message) = &stored.letter.message else {
            continue;
        };
        let number = places.next(stored.position, message.id);
        let label = json(&Label::new(number, (&stored.letter, message), attempts))?;
        rows.entry(
            |out| out.extend_from_slice(label.as_bytes()),
            |out| match destination {
                Destination::Outbox => Parts::stored(message).write(out),
                Destination::Queue { .. } => frame::write(message, out),
            },
        );
    }
    let rows = rows.into_bytes();
    let Destination::Queue { number, .. } = destination else {
        let insert = sqlx::query(TO_OUTBOX).bind(rows).bind(now.as_micros());
        insert.execute(connection).await?;
        return Ok(());
    };
    let insert = sqlx::query(TO_QUEUE).bind(rows).bind(now.as_micros());
    insert.bind(number).execute(&mut *connection).await?;
    places.remember(connection, number, now).await
}

/// The places that entries are given in a queue.
struct Places {
    destination: Destination,
    tail: i64,
    given: HashMap<i64, MessageId>,
}

impl Places {
    fn of(destination: Destination) -> Self {
        let tail = match destination {
            Destination::Outbox => 0,
            Destination::Queue { tail, .. } => tail,
        };
        Self {
            destination,
            tail,
            given: HashMap::new(),
        }
    }

    /// Its old number, or the next one where it has none here; the outbox gives that by itself.
    fn next(&mut self, position: Option<i64>, id: MessageId) -> Option<i64> {
        let Destination::Queue { span, .. } = self.destination else {
            return position;
        };
        let old = position.map(|position| span.base() + position);
        let place = old.unwrap_or_else(|| {
            self.tail += 1;
            self.tail
        });
        self.given.insert(place, id);
        Some(place)
    }

    /// Remembers the ids at their places, and counts the entries.
    async fn remember(
        self,
        connection: &mut SqliteConnection,
        queue: i64,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let ids = jsonb::texts(self.given.values().map(|id| &id.as_bytes()[..]));
        let forget = sqlx::query(FORGET).bind(queue).bind(ids);
        forget.execute(&mut *connection).await?;
        let mut places = Object::with_capacity(self.given.len() * 48);
        for (place, id) in &self.given {
            places.entry(
                |out| out.extend_from_slice(place.to_string().as_bytes()),
                |out| out.extend_from_slice(id.as_bytes()),
            );
        }
        sqlx::query(REMEMBER)
            .bind(queue)
            .bind(places.into_bytes())
            .bind(now.as_micros())
            .execute(&mut *connection)
            .await?;
        sqlx::query(COUNT)
            .bind(queue)
            .bind(self.given.len() as i64)
            .bind(self.tail)
            .execute(connection)
            .await?;
        Ok(())
    }
}
