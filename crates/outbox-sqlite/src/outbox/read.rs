//! Reads ready rows: first what there is of them (a plan), then their bodies, many at a time.
//!
//! What a row costs through a driver is its columns and its round trip, not its bytes. So a plan is
//! one row of lists, and bodies come glued together, a few rows of them; the plan knows their lengths
//! and cuts them apart, so that one damaged body spoils none of its neighbours.

use std::ops::Range;

use bytes::Bytes;
use outbox_core::message::Message;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::codec::{body, jsonb};
use crate::error::Fault;

/// About the most bytes of bodies that one read takes; a single larger row still comes.
const BYTES: usize = 8 << 20;
/// How many glued values one statement answers.
const PIECES: usize = 4;

/// What the plan knows of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) seq: i64,
    pub(super) attempts: u32,
    /// Whether an earlier row of its key, or an operator, holds it up.
    pub(super) blocked: bool,
    length: usize,
}

/// Which rows a plan is to tell of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rows<'a> {
    /// The first so many ready rows behind a row.
    Behind(i64, usize),
    /// These rows, as far as they are ready; in ascending order.
    Listed(&'a [i64]),
}

macro_rules! plan {
    ($rows:literal, $blocked:literal) => {
        concat!(
            "SELECT group_concat(seq), group_concat(attempts), group_concat(length), ",
            "group_concat(blocked) FROM (SELECT seq, attempts, length(body) AS length, ",
            $blocked,
            " AS blocked FROM outbox_messages AS m WHERE state = 0 AND ",
            $rows,
            ")"
        )
    };
}

macro_rules! blocked {
    ($rows:literal) => {
        plan!(
            $rows,
            "ordering_key IS NOT NULL AND ( \
                EXISTS (SELECT 1 FROM outbox_messages AS b WHERE b.state IN (1, 2) \
                    AND b.ordering_key = m.ordering_key AND b.seq < m.seq AND b.skip = 0) \
                OR EXISTS (SELECT 1 FROM outbox_parked_keys AS k \
                    WHERE k.ordering_key = m.ordering_key))"
        )
    };
}

const BEHIND: &str = plan!("seq > $1 ORDER BY seq LIMIT $2", "0");
const BEHIND_OR_BLOCKED: &str = blocked!("seq > $1 ORDER BY seq LIMIT $2");
const LISTED: &str = plan!("seq IN (SELECT value FROM json_each($1)) ORDER BY seq", "0");
const LISTED_OR_BLOCKED: &str = blocked!("seq IN (SELECT value FROM json_each($1)) ORDER BY seq");

/// Tells what there is of `rows`, in ascending order, and whether it left some out because of their
/// size; `blocking` says whether any row can be blocked at all.
pub(super) async fn plan(
    connection: &mut SqliteConnection,
    rows: Rows<'_>,
    blocking: bool,
) -> Result<(Vec<Planned>, bool), Fault> {
    let query = match rows {
        Rows::Behind(seq, max) => sqlx::query(if blocking { BEHIND_OR_BLOCKED } else { BEHIND })
            .bind(seq)
            .bind(i64::try_from(max).unwrap_or(i64::MAX)),
        Rows::Listed(seqs) => sqlx::query(if blocking { LISTED_OR_BLOCKED } else { LISTED })
            .bind(jsonb::integers(seqs.iter().copied())),
    };
    let row = query.fetch_one(connection).await?;
    let mut planned = take_apart(&row)?;
    let fitting = fitting(&planned);
    let cut = fitting < planned.len();
    planned.truncate(fitting);
    Ok((planned, cut))
}

fn take_apart(row: &SqliteRow) -> Result<Vec<Planned>, Fault> {
    let Some(seqs) = row.try_get::<Option<&str>, _>(0)? else {
        return Ok(Vec::new());
    };
    let mut attempts = row.try_get::<&str, _>(1)?.split(',');
    let mut lengths = row.try_get::<&str, _>(2)?.split(',');
    let mut blocked = row.try_get::<&str, _>(3)?.split(',');
    let rows = seqs.split(',').map(|seq| {
        Some(Planned {
            seq: seq.parse().ok()?,
            attempts: attempts.next()?.parse().ok()?,
            length: lengths.next()?.parse().ok()?,
            blocked: blocked.next()? != "0",
        })
    });
    let planned = rows.collect::<Option<Vec<_>>>();
    planned
        .filter(|planned| planned.is_sorted_by(|a, b| a.seq < b.seq))
        .ok_or_else(|| sqlx::Error::Decode("a list of rows is out of order".into()).into())
}

/// How many of the rows one read takes.
fn fitting(planned: &[Planned]) -> usize {
    let mut bytes = 0;
    let fits = |row: &&Planned| {
        bytes += row.length;
        bytes <= BYTES
    };
    planned
        .iter()
        .take_while(fits)
        .count()
        .max(planned.len().min(1))
}

macro_rules! glued {
    ($rows:literal) => {
        concat!(
            "SELECT group_concat(body, '') FROM (SELECT body FROM outbox_messages ",
            $rows,
            ")"
        )
    };
}

macro_rules! glued_range {
    ($low:literal, $high:literal) => {
        concat!(
            "SELECT group_concat(body, '') FROM (SELECT body FROM outbox_messages NOT INDEXED ",
            "WHERE state = 0 AND seq BETWEEN ",
            $low,
            " AND ",
            $high,
            " ORDER BY seq)"
        )
    };
}

const GLUED_RANGES: &str = concat!(
    glued_range!("$1", "$2"),
    " UNION ALL ",
    glued_range!("$3", "$4"),
    " UNION ALL ",
    glued_range!("$5", "$6"),
    " UNION ALL ",
    glued_range!("$7", "$8"),
);

const GLUED_LIST: &str =
    glued!("WHERE state = 0 AND seq IN (SELECT value FROM json_each($1)) ORDER BY seq");

/// The bodies of `rows`, one for each; `None` where the rows are not what they were planned to be,
/// because somebody else took them meanwhile.
pub(super) async fn bodies(
    connection: &mut SqliteConnection,
    rows: &[Planned],
) -> Result<Option<Vec<Bytes>>, Fault> {
    let pieces = pieces(rows);
    let glued = if is_dense(rows) {
        by_ranges(connection, rows, &pieces).await?
    } else {
        by_lists(connection, rows, &pieces).await?
    };
    let mut bodies = Vec::with_capacity(rows.len());
    for (piece, mut glued) in pieces.into_iter().zip(glued) {
        let planned: usize = rows[piece.clone()].iter().map(|row| row.length).sum();
        if planned != glued.len() {
            return Ok(None);
        }
        bodies.extend(rows[piece].iter().map(|row| glued.split_to(row.length)));
    }
    Ok(Some(bodies))
}

/// Whether walking from the first row to the last meets few others.
fn is_dense(rows: &[Planned]) -> bool {
    match rows {
        [first, .., last] => {
            let walk = usize::try_from(last.seq - first.seq).unwrap_or(usize::MAX);
            walk < rows.len() * 2
        }
        _ => true,
    }
}

/// Rows in pieces of about the same number of bytes: smaller values are cheaper to build and to
/// give back than large ones.
fn pieces(rows: &[Planned]) -> Vec<Range<usize>> {
    let total: usize = rows.iter().map(|row| row.length).sum();
    let (mut start, mut bytes) = (0, 0);
    let mut pieces = Vec::with_capacity(PIECES);
    for (place, row) in rows.iter().enumerate() {
        bytes += row.length;
        if bytes >= total / PIECES && pieces.len() < PIECES - 1 {
            pieces.push(start..place + 1);
            (start, bytes) = (place + 1, 0);
        }
    }
    if start < rows.len() {
        pieces.push(start..rows.len());
    }
    pieces
}

async fn by_ranges(
    connection: &mut SqliteConnection,
    rows: &[Planned],
    pieces: &[Range<usize>],
) -> Result<Vec<Bytes>, Fault> {
    let mut query = sqlx::query(GLUED_RANGES);
    for piece in 0..PIECES {
        let rows = pieces
            .get(piece)
            .map_or(&[][..], |piece| &rows[piece.clone()]);
        // Nothing lies between 1 and 0.
        query = query
            .bind(rows.first().map_or(1, |row| row.seq))
            .bind(rows.last().map_or(0, |row| row.seq));
    }
    let glued = query.fetch_all(connection).await?;
    glued.iter().map(bytes_in).collect()
}

async fn by_lists(
    connection: &mut SqliteConnection,
    rows: &[Planned],
    pieces: &[Range<usize>],
) -> Result<Vec<Bytes>, Fault> {
    let mut glued = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let list = jsonb::integers(rows[piece.clone()].iter().map(|row| row.seq));
        let row = sqlx::query(GLUED_LIST)
            .bind(list)
            .fetch_one(&mut *connection)
            .await?;
        glued.push(bytes_in(&row)?);
    }
    Ok(glued)
}

fn bytes_in(row: &SqliteRow) -> Result<Bytes, Fault> {
    let bytes: Option<Vec<u8>> = row.try_get_unchecked(0)?;
    Ok(bytes.unwrap_or_default().into())
}

/// The message of row `seq` in `body`. What cannot be read is fetched once more by itself before it
/// counts as damaged: gluing and cutting must never be what damaged it.
pub(super) async fn message(
    connection: &mut SqliteConnection,
    seq: i64,
    body: &Bytes,
) -> Result<Result<Message, body::Damage>, Fault> {
    if let Ok(message) = body::read(body) {
        return Ok(Ok(message));
    }
    let alone: Vec<u8> =
        sqlx::query_scalar("SELECT ifnull((SELECT body FROM outbox_messages WHERE seq = $1), x'')")
            .bind(seq)
            .fetch_one(connection)
            .await?;
    Ok(body::read(&alone.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: i64, length: usize) -> Planned {
        Planned {
            seq,
            attempts: 0,
            blocked: false,
            length,
        }
    }

    #[test]
    fn pieces_cover_every_row_once() {
        for count in 0..40 {
            let rows: Vec<_> = (0..count)
                .map(|seq| row(seq, seq as usize * 7 % 5))
                .collect();
            let pieces = pieces(&rows);
            assert!(pieces.len() <= PIECES);
            let covered: Vec<_> = pieces.into_iter().flatten().collect();
            assert_eq!(covered, (0..rows.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn one_read_takes_a_large_row_but_no_more_bytes_than_its_bound() {
        assert_eq!(fitting(&[]), 0);
        assert_eq!(fitting(&[row(1, BYTES * 2), row(2, 1)]), 1);
        assert_eq!(
            fitting(&[row(1, BYTES / 2), row(2, BYTES / 2), row(3, 1)]),
            2
        );
    }
}
