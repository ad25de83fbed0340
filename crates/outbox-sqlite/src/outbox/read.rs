//! Reads ready rows, many at a time.
//!
//! What a row costs through a driver is its columns and its round trip, not its bytes. So rows come
//! glued together: lists of what is known of them, and their bodies end to end. The lists tell the
//! lengths, so that one damaged body spoils none of its neighbours. Large bodies come by themselves,
//! so that what is glued together stays small.

use bytes::Bytes;
use futures_util::TryStreamExt;
use outbox_core::message::Message;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::read;
use crate::codec::jsonb;
use crate::error::Fault;
use outbox_core::packed::{Damage, body};

/// The longest body that is glued to others.
const SMALL: usize = 8 << 10;
/// About the most bytes of bodies that one read takes; a single larger row still comes.
const BYTES: usize = 8 << 20;
/// How many glued rows one statement answers: while one is taken apart, the next is put together.
pub(super) const PIECES: usize = 4;

/// A ready row.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) seq: i64,
    pub(super) attempts: u32,
    pub(super) message: Result<Message, Obstacle>,
}

/// Why a ready row has no message to hand out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// An earlier row of its key, or an operator, holds it up.
    Blocked,
    /// A body that has yet to be read by itself, of so many bytes.
    Unread(usize),
    /// Nothing that can be read.
    Damaged(Damage),
}

/// Which rows to read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rows<'a> {
    /// The first so many ready rows behind a row.
    Behind(i64, usize),
    /// These rows, as far as they are ready; in ascending order.
    Listed(&'a [i64]),
}

/// One glued row; its parameters are a row or a list, and how many rows to take.
macro_rules! glued {
    ($rows:expr, $offset:literal, $blocked:expr) => {
        concat!(
            "SELECT group_concat(seq), group_concat(attempts), group_concat(length), ",
            "group_concat(blocked), group_concat(body, '') ",
            "FROM (SELECT seq, attempts, length(body) AS length, ",
            $blocked,
            " AS blocked, iif(length(body) <= 8192, body, x'') AS body ",
            "FROM outbox_messages AS m WHERE state = 0 AND ",
            $rows,
            " ORDER BY seq LIMIT +$2 OFFSET ",
            $offset,
            " * $2)"
        )
    };
}

macro_rules! behind {
    ($blocked:expr) => {
        concat!(
            read::glued!("seq > $1", "0", $blocked),
            " UNION ALL ",
            read::glued!("seq > $1", "1", $blocked),
            " UNION ALL ",
            read::glued!("seq > $1", "2", $blocked),
            " UNION ALL ",
            read::glued!("seq > $1", "3", $blocked)
        )
    };
}
pub(super) use {behind, glued};

macro_rules! listed {
    ($blocked:expr) => {
        glued!("seq IN (SELECT value FROM json_each($1))", "0", $blocked)
    };
}

/// Whether a row is held up; only keyed rows are looked into.
macro_rules! is_blocked {
    () => {
        "ordering_key IS NOT NULL AND ( \
            EXISTS (SELECT 1 FROM outbox_messages AS b WHERE b.state IN (1, 2) \
                AND b.ordering_key = m.ordering_key AND b.seq < m.seq) \
            OR EXISTS (SELECT 1 FROM outbox_parked_keys AS k \
                WHERE k.ordering_key = m.ordering_key))"
    };
}

pub(super) const BEHIND: &str = behind!("0");
pub(super) const BEHIND_OR_BLOCKED: &str = behind!(is_blocked!());
pub(super) const LISTED: &str = listed!("0");
pub(super) const LISTED_OR_BLOCKED: &str = listed!(is_blocked!());

/// Reads `rows` in ascending order, and says whether it left some out because of their size;
/// `blocking` says whether any row can be held up at all.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    rows: Rows<'_>,
    blocking: bool,
) -> Result<(Vec<Found>, bool), Fault> {
    let mut found = read_glued(connection, rows, blocking).await?;
    verify_order(&found)?;
    let fitting = fitting(&found);
    let cut = fitting < found.len();
    found.truncate(fitting);
    for row in &mut found {
        if let Err(Obstacle::Unread(_)) = row.message {
            row.message = read_alone(connection, row.seq).await?;
        }
    }
    Ok((found, cut))
}

/// Makes sure that the rows are in ascending order.
pub(super) fn verify_order(found: &[Found]) -> Result<(), Fault> {
    if found.is_sorted_by(|a, b| a.seq < b.seq) {
        return Ok(());
    }
    Err(sqlx::Error::Decode("rows are out of order".into()).into())
}

async fn read_glued(
    connection: &mut SqliteConnection,
    rows: Rows<'_>,
    blocking: bool,
) -> Result<Vec<Found>, Fault> {
    let (query, max) = match rows {
        Rows::Behind(seq, max) => {
            let sql = if blocking { BEHIND_OR_BLOCKED } else { BEHIND };
            (
                sqlx::query(sql).bind(seq).bind(max.div_ceil(PIECES) as i64),
                max,
            )
        }
        Rows::Listed(seqs) => {
            let sql = if blocking { LISTED_OR_BLOCKED } else { LISTED };
            let list = jsonb::integers(seqs.iter().copied());
            (
                sqlx::query(sql).bind(list).bind(seqs.len() as i64),
                seqs.len(),
            )
        }
    };
    let mut found = Vec::with_capacity(max);
    let mut pieces = query.fetch(connection);
    while let Some(piece) = pieces.try_next().await? {
        take_apart(&piece, &mut found)?;
    }
    found.truncate(max);
    Ok(found)
}

/// Takes a glued row apart. What cannot be read is read once more by itself before it counts as
/// damaged: gluing must never be what damaged it.
pub(super) fn take_apart(piece: &SqliteRow, found: &mut Vec<Found>) -> Result<(), Fault> {
    let Some(seqs) = piece.try_get::<Option<&str>, _>(0)? else {
        return Ok(());
    };
    let lists: [&str; 3] = [piece.try_get(1)?, piece.try_get(2)?, piece.try_get(3)?];
    let mut glued = Bytes::from(piece.try_get_unchecked::<Vec<u8>, _>(4)?);
    let [mut attempts, mut lengths, mut blocked] = lists.map(|list| list.split(','));
    for seq in seqs.split(',') {
        let row = number(Some(seq))
            .zip(number(attempts.next()))
            .zip(number(lengths.next()).zip(blocked.next()));
        let Some(((seq, attempts), (length, blocked))) = row else {
            return Err(sqlx::Error::Decode("lists of rows differ in length".into()).into());
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let body = (length <= SMALL && length <= glued.len()).then(|| glued.split_to(length));
        found.push(Found {
            seq,
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
            message: match body {
                _ if blocked != "0" => Err(Obstacle::Blocked),
                Some(body) => body::read(&body).map_err(|_| Obstacle::Unread(length)),
                None => Err(Obstacle::Unread(length)),
            },
        });
    }
    Ok(())
}

fn number(text: Option<&str>) -> Option<i64> {
    text?.parse().ok()
}

/// How many of the rows one read takes.
fn fitting(found: &[Found]) -> usize {
    let mut unread = 0;
    let fits = |row: &&Found| {
        if let Err(Obstacle::Unread(length)) = row.message {
            unread += length;
        }
        unread <= BYTES
    };
    found
        .iter()
        .take_while(fits)
        .count()
        .max(found.len().min(1))
}

pub(super) const ALONE: &str =
    "SELECT ifnull((SELECT body FROM outbox_messages WHERE seq = $1), x'')";

async fn read_alone(
    connection: &mut SqliteConnection,
    seq: i64,
) -> Result<Result<Message, Obstacle>, Fault> {
    let body: Vec<u8> = sqlx::query_scalar(ALONE)
        .bind(seq)
        .fetch_one(connection)
        .await?;
    Ok(body::read(&body.into()).map_err(Obstacle::Damaged))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unread(length: usize) -> Found {
        Found {
            seq: 1,
            attempts: 0,
            message: Err(Obstacle::Unread(length)),
        }
    }

    #[test]
    fn one_read_takes_a_large_row_but_no_more_bytes_than_its_bound() {
        assert_eq!(fitting(&[]), 0);
        assert_eq!(fitting(&[unread(BYTES * 2), unread(1)]), 1);
        assert_eq!(
            fitting(&[unread(BYTES / 2), unread(BYTES / 2), unread(1)]),
            2
        );
    }
}
