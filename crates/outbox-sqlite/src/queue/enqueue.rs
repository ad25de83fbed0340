use std::collections::HashSet;

use outbox_core::error::PublishError;
use outbox_core::message::Message;
use outbox_core::ports::Enqueued;
use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::port::Inner;
use crate::codec::jsonb;
use crate::error::Fault;
use outbox_core::packed::frame;

/// The most messages that one statement takes.
const MOST_MESSAGES: usize = 1_000;
/// About the most bytes that one statement takes, where it takes more than one message.
const MOST_BYTES: usize = 4 << 20;

pub(super) const OPEN: &str =
    "BEGIN IMMEDIATE; SELECT tail, depth FROM outbox_queues WHERE queue = $1";

pub(super) const CLOSE: &str =
    "UPDATE outbox_queues SET tail = $2, depth = $3 WHERE queue = $1; COMMIT";

/// Remembers the ids that are news, each with the place that its entry is to have.
pub(super) const REMEMBER: &str = "\
    INSERT INTO outbox_enqueued (place, queue, id, enqueued_at) \
    SELECT ?2 + key, ?1, CAST(value AS BLOB), ?3 FROM json_each(?4) \
    WHERE true ON CONFLICT DO NOTHING";

pub(super) const REMEMBERED: &str =
    "SELECT place FROM outbox_enqueued WHERE place BETWEEN ?1 AND ?2 ORDER BY place";

/// Forgets those of the given ids whose time is over.
pub(super) const FORGET: &str = "\
    DELETE FROM outbox_enqueued WHERE queue = ?1 AND enqueued_at <= ?2 \
    AND id IN (SELECT CAST(value AS BLOB) FROM json_each(?3)) \
    AND NOT EXISTS (SELECT 1 FROM outbox_entries AS e WHERE e.place = outbox_enqueued.place) \
    AND NOT EXISTS (SELECT 1 FROM outbox_returned AS r WHERE r.place = outbox_enqueued.place)";

/// Takes back what was remembered of messages that do not fit.
pub(super) const TAKE_BACK: &str = "DELETE FROM outbox_enqueued WHERE place BETWEEN ?1 AND ?2";

pub(super) const ADD: &str = "\
    INSERT INTO outbox_entries (place, enqueued_at, body) \
    SELECT ?1 + key, ?2, CAST(value AS BLOB) FROM json_each(?3)";

/// How far a queue has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ledger {
    tail: i64,
    depth: i64,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Added,
    Duplicate,
    /// There is no room for it.
    Refused,
}

/// Why a message did not fit.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the queue holds {depth} unsettled entries, its high-water mark is {high_water}")]
struct Full {
    depth: i64,
    high_water: usize,
}

impl Inner {
    pub(super) async fn enqueue(
        &self,
        messages: &[Message],
    ) -> Result<Vec<Result<Enqueued, PublishError>>, Fault> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.store.options().clock.now();
        if self.add_at_once(messages, now).await? {
            self.store.announce();
            return Ok(messages.iter().map(|_| Ok(Enqueued::Added)).collect());
        }
        let mut writer = self.store.writer().await?;
        let connection = writer.connection();
        let before = self.begin_at_tail(connection).await?;
        let (mut ledger, mut fates) = (before, Vec::with_capacity(messages.len()));
        for chunk in chunks(messages) {
            fates.extend(self.add(connection, chunk, &mut ledger, now).await?);
        }
        if fates.contains(&Fate::Refused) {
            self.room.note_full();
        }
        if ledger == before {
            // Nothing is news; not even a commit is owed.
            writer.rollback().await?;
        } else {
            self.sweep_along(connection, now, messages.len()).await?;
            self.commit_tail(connection, ledger).await?;
            self.store.announce();
        }
        writer.finish();
        Ok(self.tell(&fates, ledger.depth))
    }

    /// Begins a transaction; answers how far the queue has come.
    async fn begin_at_tail(&self, connection: &mut SqliteConnection) -> Result<Ledger, Fault> {
        let row = sqlx::query(OPEN)
            .bind(self.queue)
            .fetch_one(connection)
            .await?;
        Ok(Ledger {
            tail: row.try_get(0)?,
            depth: row.try_get(1)?,
        })
    }

    /// Writes how far the queue has come, and commits.
    async fn commit_tail(
        &self,
        connection: &mut SqliteConnection,
        ledger: Ledger,
    ) -> Result<(), Fault> {
        sqlx::query(CLOSE)
            .bind(self.queue)
            .bind(ledger.tail)
            .bind(ledger.depth)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Adds those of `messages` that are news and fit, at the places after the tail.
    async fn add(
        &self,
        connection: &mut SqliteConnection,
        messages: &[Message],
        ledger: &mut Ledger,
        now: Timestamp,
    ) -> Result<Vec<Fate>, Fault> {
        let first = ledger.tail + 1;
        let ids = ids_of(messages);
        let news = self.remember(connection, first, now, &ids).await?;
        let room = self.room(*ledger);
        let fates = if news == messages.len() && news <= room {
            vec![Fate::Added; news]
        } else {
            self.forget(connection, now, &ids).await?;
            self.remember(connection, first, now, &ids).await?;
            sort_out(connection, messages, first, room).await?
        };
        let added = fates.iter().filter(|fate| **fate == Fate::Added).count();
        if added > 0 {
            add_entries(connection, messages, &fates, (first, now)).await?;
            ledger.tail += messages.len() as i64;
            ledger.depth += added as i64;
        }
        Ok(fates)
    }

    /// How many more entries fit.
    fn room(&self, ledger: Ledger) -> usize {
        let depth = usize::try_from(ledger.depth).unwrap_or(0);
        self.config.high_water.saturating_sub(depth)
    }

    /// Remembers those of `ids` that are news; how many.
    async fn remember(
        &self,
        connection: &mut SqliteConnection,
        first: i64,
        now: Timestamp,
        ids: &[u8],
    ) -> Result<usize, Fault> {
        let done = sqlx::query(REMEMBER)
            .bind(self.queue)
            .bind(first)
            .bind(now.as_micros())
            .bind(ids)
            .execute(connection)
            .await?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }

    async fn forget(
        &self,
        connection: &mut SqliteConnection,
        now: Timestamp,
        ids: &[u8],
    ) -> Result<(), Fault> {
        let before = now - self.config.dedup_window;
        sqlx::query(FORGET)
            .bind(self.queue)
            .bind(before.as_micros())
            .bind(ids)
            .execute(connection)
            .await?;
        Ok(())
    }

    fn tell(&self, fates: &[Fate], depth: i64) -> Vec<Result<Enqueued, PublishError>> {
        let high_water = self.config.high_water;
        let tell = |fate: &Fate| match fate {
            Fate::Added => Ok(Enqueued::Added),
            Fate::Duplicate => Ok(Enqueued::Duplicate),
            Fate::Refused => Err(PublishError::full(Full { depth, high_water })),
        };
        fates.iter().map(tell).collect()
    }
}

/// Tells which messages are news, by the places that were remembered, and which of those fit into
/// `room`; what does not fit is not remembered.
async fn sort_out(
    connection: &mut SqliteConnection,
    messages: &[Message],
    first: i64,
    room: usize,
) -> Result<Vec<Fate>, Fault> {
    let last = first + messages.len() as i64 - 1;
    let news: Vec<i64> = sqlx::query_scalar(REMEMBERED)
        .bind(first)
        .bind(last)
        .fetch_all(&mut *connection)
        .await?;
    let (fitting, rest) = news.split_at(room.min(news.len()));
    if let Some(from) = rest.first() {
        let take_back = sqlx::query(TAKE_BACK).bind(from).bind(last);
        take_back.execute(connection).await?;
    }
    let fitting: HashSet<i64> = fitting.iter().copied().collect();
    let rest: HashSet<i64> = rest.iter().copied().collect();
    let mut refused = HashSet::new();
    let fates = messages.iter().zip(first..).map(|(message, place)| {
        if fitting.contains(&place) {
            Fate::Added
        } else if rest.contains(&place) || refused.contains(&message.id) {
            // A second copy of what did not fit is no duplicate of anything that is stored.
            refused.insert(message.id);
            Fate::Refused
        } else {
            Fate::Duplicate
        }
    });
    Ok(fates.collect())
}

async fn add_entries(
    connection: &mut SqliteConnection,
    messages: &[Message],
    fates: &[Fate],
    (first, now): (i64, Timestamp),
) -> Result<(), Fault> {
    let added = messages.iter().enumerate();
    let added = added.filter(|(offset, _)| fates.get(*offset) == Some(&Fate::Added));
    sqlx::query(ADD)
        .bind(first)
        .bind(now.as_micros())
        .bind(pack(added))
        .execute(connection)
        .await?;
    Ok(())
}

/// The ids of `messages` as one value.
pub(super) fn ids_of(messages: &[Message]) -> Vec<u8> {
    jsonb::texts(messages.iter().map(|message| &message.id.as_bytes()[..]))
}

/// The frames of messages as one value, each by its offset from the first place.
pub(super) fn pack<'a>(messages: impl Iterator<Item = (usize, &'a Message)> + Clone) -> Vec<u8> {
    let sizes = messages
        .clone()
        .map(|(_, message)| frame::size_hint(message));
    let mut bodies = jsonb::Object::with_capacity(sizes.sum());
    for (offset, message) in messages {
        bodies.entry(
            |label| label.extend_from_slice(offset.to_string().as_bytes()),
            |body| frame::write(message, body),
        );
    }
    bodies.into_bytes()
}

/// Cuts `messages` into runs that one statement takes each.
pub(super) fn chunks(messages: &[Message]) -> impl Iterator<Item = &[Message]> {
    let mut rest = messages;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = rest.iter().take(MOST_MESSAGES).take_while(|message| {
            let first = bytes == 0;
            bytes += frame::size_hint(message);
            first || bytes <= MOST_BYTES
        });
        let (chunk, after) = rest.split_at(fitting.count());
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use outbox_core::id::MessageId;
    use outbox_core::message::NewMessage;

    use super::*;

    fn lengths(count: usize, bytes: usize) -> Vec<usize> {
        let new = NewMessage::new("t", vec![0; bytes]);
        let id = MessageId::from_bytes([1; 16]);
        let messages = vec![Message::appended(&new, id, Timestamp::EPOCH); count];
        chunks(&messages).map(<[_]>::len).collect()
    }

    #[test]
    fn a_chunk_is_bounded_in_messages_and_in_bytes() {
        assert_eq!(lengths(2_500, 10), [1_000, 1_000, 500]);
        assert_eq!(lengths(10, 1 << 20), [3, 3, 3, 1]);
        assert_eq!(lengths(2, MOST_BYTES + 1), [1, 1]);
        assert!(lengths(0, 0).is_empty());
    }
}
