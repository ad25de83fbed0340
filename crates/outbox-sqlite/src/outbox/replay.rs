//! Replaying: published rows that are kept become ready again, a bounded number a transaction, under
//! a lease that is taken away from whoever holds it.

use std::time::Duration;

use bytes::Bytes;
use outbox_core::id::WorkerId;
use outbox_core::lease::Epoch;
use outbox_core::packed::body;
use outbox_core::ports::{ReplayFrom, ReplayRequest};
use outbox_core::report::ReplayReport;
use sqlx::Row;

use super::lease;
use crate::codec::jsonb;
use crate::error::Fault;
use crate::store::SqliteStore;

/// How many rows one transaction makes ready.
const ROWS: usize = 500;
/// How long the lease lasts from one of these transactions to the next.
const LEASE: Duration = Duration::from_secs(10);

pub(super) const FIRST_SINCE: &str =
    "SELECT min(seq) FROM outbox_messages WHERE state = 3 AND settled_at >= $1";

/// Kept rows in commit order, with their bodies where topics have to be looked at.
pub(super) const KEPT: &str = "SELECT seq, iif($4, body, NULL) FROM outbox_messages NOT INDEXED \
    WHERE seq >= $1 AND state = 3 AND settled_at >= $2 ORDER BY seq LIMIT +$3";

/// The epoch grows only where the lease is another's: everything that its holder knows is stale then.
pub(super) const SEIZE: &str = "UPDATE outbox_lease SET epoch = epoch + (owner IS NOT $1), \
    owner = $1, expires_at = $2 WHERE id = 1 RETURNING epoch";

pub(super) const MAKE_READY: &str = "UPDATE outbox_messages SET state = 0, attempts = 0, \
    history = NULL, first_failed_at = NULL, settled_at = NULL \
    WHERE seq IN (SELECT value FROM json_each($1)) AND state = 3";

/// What is ready again so far, under the lease of which epoch.
#[derive(Default)]
struct Ready {
    rows: u64,
    seized: Option<Epoch>,
}

/// Replays what `request` asks for.
pub(super) async fn replay(
    store: &SqliteStore,
    request: &ReplayRequest,
) -> Result<ReplayReport, Fault> {
    let owner = WorkerId::new(&store.options().entropy);
    let mut ready = Ready::default();
    let ended = make_all_ready(store, request, owner, &mut ready).await;
    if ready.seized.is_some() {
        // Also where it failed halfway: nobody is to wait until this lease ends.
        lease::release(store, store.outbox(), owner).await?;
    }
    ended?;
    let epoch = match ready.seized {
        Some(epoch) => epoch,
        None => present_epoch(store).await?,
    };
    Ok(ReplayReport {
        replayed: ready.rows,
        epoch,
    })
}

async fn make_all_ready(
    store: &SqliteStore,
    request: &ReplayRequest,
    owner: WorkerId,
    ready: &mut Ready,
) -> Result<(), Fault> {
    let (mut next, since) = beginning(store, request.from).await?;
    loop {
        let page = read(store, request, (next, since)).await?;
        if !page.wanted.is_empty() {
            let (rows, epoch) = make_ready(store, owner, &page.wanted).await?;
            ready.rows += rows;
            ready.seized = Some(epoch);
        }
        match page.next {
            Some(seq) => next = seq,
            None if page.wanted.is_empty() => return Ok(()),
            // What was settled until the lease was seized is there now.
            None => {}
        }
    }
}

async fn present_epoch(store: &SqliteStore) -> Result<Epoch, Fault> {
    let mut reader = store.reader().await?;
    let epoch: i64 = sqlx::query_scalar("SELECT epoch FROM outbox_lease WHERE id = 1")
        .fetch_one(reader.connection())
        .await?;
    reader.finish();
    Ok(Epoch(epoch.unsigned_abs()))
}

/// The first row that may be wanted, and the first moment.
async fn beginning(store: &SqliteStore, from: ReplayFrom) -> Result<(i64, i64), Fault> {
    let since = match from {
        ReplayFrom::Sequence(first) => {
            return Ok((i64::try_from(first.0).unwrap_or(i64::MAX), i64::MIN));
        }
        ReplayFrom::PublishedAt(moment) => moment.as_micros(),
    };
    let mut reader = store.reader().await?;
    let first: Option<i64> = sqlx::query_scalar(FIRST_SINCE)
        .bind(since)
        .fetch_one(reader.connection())
        .await?;
    reader.finish();
    Ok((first.unwrap_or(i64::MAX), since))
}

/// Rows that are to be replayed, and where to read on.
struct Page {
    wanted: Vec<i64>,
    next: Option<i64>,
}

async fn read(
    store: &SqliteStore,
    request: &ReplayRequest,
    (next, since): (i64, i64),
) -> Result<Page, Fault> {
    let topics = &request.topics;
    let mut reader = store.reader().await?;
    let rows = sqlx::query(KEPT)
        .bind(next)
        .bind(since)
        .bind(ROWS as i64)
        .bind(!topics.is_empty())
        .fetch_all(reader.connection())
        .await?;
    reader.finish();
    let mut page = Page {
        wanted: Vec::with_capacity(rows.len()),
        next: None,
    };
    let full = rows.len() == ROWS;
    for row in rows {
        let seq: i64 = row.try_get(0)?;
        let body: Option<Vec<u8>> = row.try_get(1)?;
        if body.is_none_or(|body| is_of(topics, body)) {
            page.wanted.push(seq);
        }
        page.next = full.then_some(seq + 1);
    }
    Ok(page)
}

/// Whether a body is of one of `topics`. One that cannot be read may be: the next claim tells it.
fn is_of(topics: &[String], body: Vec<u8>) -> bool {
    body::read(&Bytes::from(body)).map_or(true, |message| topics.contains(&message.topic))
}

/// How many rows are ready, and the epoch of the lease that was seized for that.
async fn make_ready(
    store: &SqliteStore,
    owner: WorkerId,
    rows: &[i64],
) -> Result<(u64, Epoch), Fault> {
    let until = store.options().clock.now() + LEASE;
    let mut writer = store.writer().await?;
    writer.begin().await?;
    let epoch: i64 = sqlx::query_scalar(SEIZE)
        .bind(owner.as_bytes().as_slice())
        .bind(until.as_micros())
        .fetch_one(writer.connection())
        .await?;
    let ready = sqlx::query(MAKE_READY)
        .bind(jsonb::integers(rows.iter().copied()))
        .execute(writer.connection())
        .await?
        .rows_affected();
    writer.commit().await?;
    writer.finish();
    Ok((ready, Epoch(epoch.unsigned_abs())))
}
