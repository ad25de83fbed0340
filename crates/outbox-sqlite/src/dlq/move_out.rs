//! Moves messages that fail too often out of the outbox, or out of a queue, into quarantine.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use outbox_core::id::MessageId;
use outbox_core::packed::body;
use outbox_core::time::Timestamp;
use outbox_dlq::{DlqEntry, Move, Origin};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::send_back::Destination;
use crate::codec::jsonb;
use crate::connect::Role;
use crate::error::Fault;
use crate::outbox::{history, settle_any};
use crate::quarantine::{self, Entry};
use crate::queue::quarantine::dead_frame;
use crate::store::SqliteStore;

/// The most messages that one transaction moves while others write: so that an append waits no longer
/// than for a few milliseconds.
const CHUNK: usize = 200;
/// The most that one moves while nobody does. Each waits for the disk once, and writes most pages of
/// the index of waiting messages that it touches once for several messages.
const CHUNK_ALONE: usize = 1_000;
/// About the most bytes of bodies that one transaction moves, where it moves more than one.
const BYTES: i64 = 8 << 20;
/// Up to so many bytes a body is read with its row: all that one look reads fits [`BYTES`].
const SMALL: i64 = BYTES / CHUNK_ALONE as i64;

/// Moves the messages of `entries`, one answer each.
pub(super) async fn quarantine(
    store: &SqliteStore,
    entries: &[DlqEntry],
    now: Timestamp,
) -> Result<Vec<Move>, Fault> {
    let mut by_origin: HashMap<&Origin, Vec<usize>> = HashMap::new();
    for (place, entry) in entries.iter().enumerate() {
        by_origin
            .entry(&entry.subject.origin)
            .or_default()
            .push(place);
    }
    let mut moves = vec![Move::Gone; entries.len()];
    for (origin, places) in by_origin {
        let mut rest = &places[..];
        while !rest.is_empty() {
            let most = match store.is_background_alone() {
                true => CHUNK_ALONE,
                false => CHUNK,
            };
            let (chunk, after) = rest.split_at(most.min(rest.len()));
            rest = after;
            let chunk: Vec<_> = chunk
                .iter()
                .map(|place| (*place, &entries[*place]))
                .collect();
            let told = Moving { store, origin, now }.chunk(&chunk).await?;
            for ((place, _), told) in chunk.iter().zip(told) {
                moves[*place] = told;
            }
        }
    }
    Ok(moves)
}

/// Where messages are moved from, and when.
struct Moving<'a> {
    store: &'a SqliteStore,
    origin: &'a Origin,
    now: Timestamp,
}

/// A message where it stands.
struct Standing {
    /// Its row's number.
    number: i64,
    free: bool,
    /// How long its body is.
    size: i64,
    row: SqliteRow,
}

macro_rules! free {
    () => {
        "(state <> 0 OR (SELECT expires_at = 0 FROM outbox_lease WHERE id = 1))"
    };
}

/// What is there of some ids; the body where it may be moved and is small.
pub(super) const OUTBOX: &str = concat!(
    "SELECT id, seq, ",
    free!(),
    ", length(body), iif(length(body) <= ?2 AND ",
    free!(),
    ", body, NULL), attempts, history, first_failed_at, redrives, ordering_key \
    FROM outbox_messages \
    WHERE id IN (SELECT CAST(value AS BLOB) FROM json_each(?1)) AND state <> 3"
);

pub(super) const QUEUE: &str = "\
    SELECT k.id, k.place, ifnull(r.token, 1) = 0, ifnull(length(r.body), 0), \
        iif(length(r.body) <= ?2 AND r.token = 0, r.body, NULL), \
        r.attempts, r.history, r.first_failed_at, r.redrives, NULL \
    FROM outbox_enqueued AS k LEFT JOIN outbox_returned AS r ON r.place = k.place \
    WHERE k.queue = ?3 AND k.id IN (SELECT CAST(value AS BLOB) FROM json_each(?1)) \
    AND (r.place IS NOT NULL \
        OR EXISTS (SELECT 1 FROM outbox_entries AS e WHERE e.place = k.place))";

pub(super) const OUTBOX_BODY: &str = "SELECT body FROM outbox_messages WHERE seq = ?1";
pub(super) const QUEUE_BODY: &str = "SELECT body FROM outbox_returned WHERE place = ?1";

pub(super) const LEAVE_QUEUE: &str = "\
    DELETE FROM outbox_returned WHERE place IN (SELECT value FROM json_each(?1))";

pub(super) const COUNT_LEFT: &str = "UPDATE outbox_queues SET depth = depth - ?2 WHERE queue = ?1";

impl Moving<'_> {
    /// Moves a chunk, in as many transactions as its bytes need.
    async fn chunk(&self, chunk: &[(usize, &DlqEntry)]) -> Result<Vec<Move>, Fault> {
        let mut moves = HashMap::with_capacity(chunk.len());
        let mut rest: Vec<_> = chunk.iter().map(|(_, entry)| *entry).collect();
        while !rest.is_empty() {
            rest = self.some(&rest, &mut moves).await?;
        }
        let told = |(_, entry): &(usize, &DlqEntry)| {
            moves.get(&entry.subject.id).copied().unwrap_or(Move::Gone)
        };
        Ok(chunk.iter().map(told).collect())
    }

    /// Moves as many of `entries` as fit one transaction; answers those that are left.
    async fn some<'e>(
        &self,
        entries: &[&'e DlqEntry],
        moves: &mut HashMap<MessageId, Move>,
    ) -> Result<Vec<&'e DlqEntry>, Fault> {
        let mut writer = self.store.background_writer(Role::Durable).await?;
        writer.begin().await?;
        let connection = writer.connection();
        let destination = Destination::of(connection, self.origin).await?;
        let Some(destination) = destination else {
            writer.rollback().await?;
            writer.finish();
            return Ok(Vec::new());
        };
        let mut standing = standing(connection, destination, entries).await?;
        let (mut taken, mut left, mut bytes) = (Vec::new(), Vec::new(), 0);
        for entry in entries {
            let id = entry.subject.id;
            match standing.remove(&id) {
                None => {}
                Some(found) if !found.free => {
                    moves.insert(id, Move::InFlight);
                }
                Some(found) if bytes == 0 || bytes + found.size <= BYTES => {
                    bytes += found.size;
                    taken.push((*entry, found));
                    moves.insert(id, Move::Moved);
                }
                Some(_) => left.push(*entry),
            }
        }
        if taken.is_empty() {
            writer.rollback().await?;
        } else {
            taken.sort_unstable_by_key(|(_, found)| found.number);
            self.take(connection, destination, &taken).await?;
            writer.commit().await?;
            self.store.announce();
        }
        writer.finish();
        Ok(left)
    }

    async fn take(
        &self,
        connection: &mut SqliteConnection,
        destination: Destination,
        taken: &[(&DlqEntry, Standing)],
    ) -> Result<(), Fault> {
        let mut dead = Vec::with_capacity(taken.len());
        for (entry, found) in taken {
            let body = match found.row.try_get(4)? {
                Some(body) => body,
                None => body_of(connection, destination, found.number).await?,
            };
            dead.push(self.dead(found, body, entry, destination)?);
        }
        quarantine::insert(connection, &dead).await?;
        let rows = || jsonb::integers(taken.iter().map(|(_, found)| found.number));
        let Destination::Queue { number, .. } = destination else {
            for sql in [settle_any::UNPARK_LATER, settle_any::BURIED] {
                sqlx::query(sql)
                    .bind(rows())
                    .execute(&mut *connection)
                    .await?;
            }
            return Ok(());
        };
        let leave = sqlx::query(LEAVE_QUEUE).bind(rows());
        leave.execute(&mut *connection).await?;
        let count = sqlx::query(COUNT_LEFT).bind(number).bind(dead.len() as i64);
        count.execute(connection).await?;
        Ok(())
    }

    /// What quarantine keeps of a row; where the row tells of no failure, the heap does.
    fn dead(
        &self,
        found: &Standing,
        body: Vec<u8>,
        entry: &DlqEntry,
        destination: Destination,
    ) -> Result<Entry, Fault> {
        let Standing { number, row, .. } = found;
        let bytes = Bytes::from(body);
        let history = row.try_get::<Option<&str>, _>(6)?;
        let history = history.map(history::parse).unwrap_or_default();
        let first_failed_at: Option<i64> = row.try_get(7)?;
        let first_failed_at = first_failed_at.map_or(entry.first_failed_at, Timestamp::from_micros);
        let (last_failed_at, kind, error) = match history.last() {
            Some(last) => (last.at, &last.kind, &last.error),
            None => (entry.last_failed_at, &entry.kind, &entry.error),
        };
        let (kind, error) = (kind.clone(), error.clone());
        let start = match destination {
            Destination::Outbox => outbox_entry(bytes, *number, row.try_get(9)?, self.now),
            Destination::Queue { span, .. } => Entry {
                place: Some(span.entry(*number).major.cast_signed()),
                ..dead_frame(&bytes, self.origin.to_string(), self.now)
            },
        };
        Ok(Entry {
            attempts: row.try_get(5)?,
            redrives: row.try_get(8)?,
            history,
            first_failed_at,
            last_failed_at,
            kind,
            error,
            ..start
        })
    }
}

fn outbox_entry(bytes: Bytes, seq: i64, key: Option<String>, now: Timestamp) -> Entry {
    let message = body::read(&bytes);
    Entry {
        body: message.is_err().then_some(bytes),
        message: message.ok(),
        ordering_key: key,
        ..Entry::of_outbox(seq, 0, now)
    }
}

/// Those of `entries` that are still there to be delivered.
async fn standing(
    connection: &mut SqliteConnection,
    destination: Destination,
    entries: &[&DlqEntry],
) -> Result<HashMap<MessageId, Standing>, Fault> {
    let ids: HashSet<_> = entries.iter().map(|entry| entry.subject.id).collect();
    let ids = jsonb::texts(ids.iter().map(|id| &id.as_bytes()[..]));
    let query = match destination {
        Destination::Outbox => sqlx::query(OUTBOX).bind(ids).bind(SMALL),
        Destination::Queue { number, .. } => sqlx::query(QUEUE).bind(ids).bind(SMALL).bind(number),
    };
    let mut standing = HashMap::with_capacity(entries.len());
    for row in query.fetch_all(connection).await? {
        let found = Standing {
            number: row.try_get(1)?,
            free: row.try_get(2)?,
            size: row.try_get(3)?,
            row,
        };
        standing.insert(id(&found.row)?, found);
    }
    Ok(standing)
}

/// A body that was too large to be read with its row.
async fn body_of(
    connection: &mut SqliteConnection,
    destination: Destination,
    number: i64,
) -> Result<Vec<u8>, Fault> {
    let sql = match destination {
        Destination::Outbox => OUTBOX_BODY,
        Destination::Queue { .. } => QUEUE_BODY,
    };
    let body = sqlx::query_scalar(sql).bind(number);
    Ok(body.fetch_one(connection).await?)
}

/// The id in the first column.
pub(super) fn id(row: &SqliteRow) -> Result<MessageId, Fault> {
    let bytes: &[u8] = row.try_get(0)?;
    let bytes = bytes.try_into().map_err(|_| sqlx::Error::ColumnDecode {
        index: "id".to_owned(),
        source: "a message id has 16 bytes".into(),
    })?;
    Ok(MessageId::from_bytes(bytes))
}
