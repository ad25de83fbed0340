//! The usual claim: the lease is held, and the next fresh rows are all that there is to hand out.
//!
//! One round trip then tells both that it is so and the rows. It goes to the durable writing
//! connection where nobody writes: that one has in memory what it appended, and will delete what is
//! read here, while to a reading connection every page is new after each commit.

use futures_util::TryStreamExt;
use outbox_core::ports::ClaimRequest;
use outbox_core::report::ClaimReport;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Either, Executor};

use super::gather::Gathering;
use super::lease;
use super::pulse::{self, Pulse};
use super::read::{self, Found};
use super::shared::Shared;
use crate::error::Fault;
use crate::store::SqliteStore;

/// What the session expects to find.
#[derive(Clone, Copy)]
struct Expected {
    epoch: i64,
    /// Rows up to here were met.
    high: i64,
}

/// Claims for `request` if all is as usual; `None` where it has to be looked into. Where there is
/// nothing to claim, nothing is written.
pub(super) async fn claim(
    store: &SqliteStore,
    shared: &Shared,
    request: &ClaimRequest,
) -> Result<Option<ClaimReport>, Fault> {
    let Some(expected) = expect(shared, request) else {
        return Ok(None);
    };
    let (pulse, rows) = look_anywhere(store, expected.high, request.max).await?;
    let plain = |row: &Found| row.attempts == 0 && row.message.is_ok();
    let usual = pulse.epoch == expected.epoch
        && pulse.expires_at > request.now
        && pulse.is_calm()
        && rows.iter().all(plain);
    let held =
        usual && (rows.is_empty() || lease::make_last(store, shared, request, &pulse).await?);
    if !held {
        return Ok(None);
    }
    let gathering = Gathering {
        store,
        shared,
        request,
        epoch: expected.epoch,
        blocking: false,
        fresh: true,
    };
    Ok(gathering.take(rows))
}

/// What is to be found if all is as usual.
fn expect(shared: &Shared, request: &ClaimRequest) -> Option<Expected> {
    let mut session = shared.session();
    let session = session.as_mut()?;
    let usual = session.owner == request.owner
        && session.expires_at > request.now
        && session.calm
        && !session.parked
        && session.again_count() == 0
        && request.paused_topics.is_empty()
        && request.max > 0;
    if !usual {
        return None;
    }
    session.begin_claim(false);
    Some(Expected {
        epoch: session.epoch,
        high: session.high(),
    })
}

async fn look_anywhere(
    store: &SqliteStore,
    high: i64,
    max: usize,
) -> Result<(Pulse, Vec<Found>), Fault> {
    if let Some(mut writer) = store.idle_writer().await? {
        let looked = look(writer.connection(), high, max).await?;
        writer.finish();
        return Ok(looked);
    }
    let mut reader = store.reader().await?;
    let looked = look(reader.connection(), high, max).await?;
    reader.finish();
    Ok(looked)
}

/// The pulse, then up to `max` ready rows behind `high`.
async fn look(
    connection: &mut SqliteConnection,
    high: i64,
    max: usize,
) -> Result<(Pulse, Vec<Found>), Fault> {
    let pieces = max.div_ceil(read::PIECES) as i64;
    let query = sqlx::query(LOOK).bind(high).bind(pieces);
    let mut pulse = None;
    let mut found = Vec::with_capacity(max);
    let mut answers = Executor::fetch_many(connection, query);
    while let Some(answer) = answers.try_next().await? {
        match (answer, &pulse) {
            (Either::Left(_), _) => {}
            (Either::Right(row), None) => pulse = Some(pulse::in_row(&row)?),
            (Either::Right(row), Some(_)) => read::take_apart(&row, &mut found)?,
        }
    }
    found.truncate(max);
    read::verify_order(&found)?;
    Ok((pulse.ok_or(sqlx::Error::RowNotFound)?, found))
}

const LOOK: &str = concat!(pulse::pulse!(), "; ", read::behind!("0"));
