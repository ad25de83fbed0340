//! A share for fresh rows: while a long backlog is drained in order, messages without a key that
//! were appended since do not wait for its end.
//!
//! A keyed row stays in line: whether an earlier one of its key is in the backlog is known only once
//! that has been read. So that many of them cost a claim no more than a few do, a look goes through a
//! stated number of ready rows, and the next one begins where it ended.

use futures_util::TryStreamExt;
use outbox_core::ports::ClaimRequest;
use outbox_core::report::ClaimReport;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Either, Executor, Row};

use super::gather::Gathering;
use super::lease;
use super::pulse::{self, Pulse};
use super::read::{self, Found};
use super::shared::Shared;
use crate::error::Fault;
use crate::store::SqliteStore;

/// Whose turn it is to claim fresh rows, and behind which row they begin.
#[derive(Clone, Copy)]
struct Turn {
    epoch: i64,
    behind: i64,
}

/// What a look at the fresh rows finds.
struct Seen {
    pulse: Pulse,
    /// The last row that was looked at.
    last: i64,
    rows: Vec<Found>,
}

impl Seen {
    /// Up to which row nothing is left to be seen, where `max` rows were asked for.
    fn end(&self, max: usize) -> i64 {
        let last_row = self.rows.last().map_or(0, |row| row.seq);
        if self.rows.len() == max {
            return last_row;
        }
        // One that was appended between the two statements is behind the last.
        self.last.max(last_row)
    }
}

/// Claims fresh rows where it is their turn; `None` where it is not, or there are none.
pub(super) async fn claim(
    store: &SqliteStore,
    shared: &Shared,
    request: &ClaimRequest,
) -> Result<Option<ClaimReport>, Fault> {
    let Some(turn) = take_turn(shared, request) else {
        return Ok(None);
    };
    let mut reader = store.reader().await?;
    let seen = look(reader.connection(), turn, request.max).await?;
    reader.finish();
    let ours = seen.pulse.epoch == turn.epoch && seen.pulse.expires_at > request.now;
    if !ours || !lease::make_last(store, shared, request, &seen.pulse).await? {
        return Ok(None);
    }
    let end = seen.end(request.max);
    let gathering = Gathering {
        store,
        shared,
        request,
        epoch: turn.epoch,
        blocking: false,
        fresh: true,
    };
    Ok(gathering.take_fresh(seen.rows, end))
}

fn take_turn(shared: &Shared, request: &ClaimRequest) -> Option<Turn> {
    let mut session = shared.session();
    let session = session.as_mut()?;
    let usual = session.owner == request.owner
        && session.expires_at > request.now
        && request.paused_topics.is_empty()
        && request.max > 0;
    let behind = usual.then(|| session.take_turn())??;
    Some(Turn {
        epoch: session.epoch,
        behind,
    })
}

async fn look(connection: &mut SqliteConnection, turn: Turn, max: usize) -> Result<Seen, Fault> {
    let query = sqlx::query(LOOK).bind(turn.behind).bind(max as i64);
    let (mut pulse, mut last, mut rows) = (None, None, Vec::new());
    let mut answers = Executor::fetch_many(connection, query);
    while let Some(answer) = answers.try_next().await? {
        let Either::Right(row) = answer else { continue };
        match (&pulse, last) {
            (None, _) => pulse = Some(pulse::in_row(&row)?),
            (Some(_), None) => last = Some(row.try_get(0)?),
            (Some(_), Some(_)) => read::take_apart(&row, &mut rows)?,
        }
    }
    read::verify_order(&rows)?;
    Ok(Seen {
        pulse: pulse.ok_or(sqlx::Error::RowNotFound)?,
        last: last.ok_or(sqlx::Error::RowNotFound)?,
        rows,
    })
}

/// The last row that a look behind $1 for $2 rows goes to: it has four ready rows for each, or all.
macro_rules! end {
    () => {
        "ifnull((SELECT seq FROM outbox_messages WHERE state = 0 AND seq > $1 \
            ORDER BY seq LIMIT 1 OFFSET 4 * $2 - 1), \
            (SELECT ifnull(max(seq), 0) FROM outbox_messages))"
    };
}

/// The pulse, the last row, and the fresh rows that are plain: those that are not stay in line.
pub(super) const LOOK: &str = concat!(
    pulse::pulse!(),
    "; SELECT ",
    end!(),
    "; ",
    read::glued!(
        concat!(
            "seq > $1 AND seq <= ",
            end!(),
            " AND ordering_key IS NULL AND attempts = 0 AND length(body) <= 8192"
        ),
        "0",
        "0"
    )
);

#[cfg(test)]
mod tests {
    use outbox_core::message::NewMessage;
    use outbox_core::ports::Outbox;

    use super::*;
    use crate::SqliteOutbox;
    use crate::plan::steps_taken;

    const FIRST: Turn = Turn {
        epoch: 0,
        behind: 0,
    };

    async fn outbox() -> (SqliteOutbox, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let outbox = SqliteOutbox::open(folder.path().join("outbox.db")).await;
        (outbox.unwrap(), folder)
    }

    #[tokio::test]
    async fn a_row_that_is_appended_in_the_middle_of_a_look_is_seen_once() {
        let (outbox, _folder) = outbox().await;
        let messages = vec![NewMessage::new("t", "x"); 5];
        outbox.append(&messages).await.unwrap();
        let mut reader = outbox.store().reader().await.unwrap();
        let mut seen = look(reader.connection(), FIRST, 10).await.unwrap();
        // As it is where the fifth comes between its statements.
        seen.last = 4;
        assert_eq!((seen.end(10), seen.end(5)), (5, 5));
    }

    #[tokio::test]
    async fn a_look_goes_through_so_many_keyed_rows_however_many_there_are() {
        let (outbox, _folder) = outbox().await;
        let mut reader = outbox.store().reader().await.unwrap();
        let mut taken = Vec::new();
        for more in [100, 100, 2_000] {
            let keyed = NewMessage::new("t", "x").ordering_key("blocked");
            outbox.append(&vec![keyed; more]).await.unwrap();
            let look = async |connection: &mut SqliteConnection| {
                let seen = look(connection, FIRST, 10).await.unwrap();
                assert_eq!((seen.rows.len(), seen.last), (0, 40));
            };
            taken.push(steps_taken(reader.connection(), look).await);
        }
        // The first one reads the schema, too.
        assert_eq!(taken[1], taken[2]);
    }
}
