//! The one lease on the outbox: a small row, written without waiting for the disk.
//!
//! A loss of power may undo the last writes of it, and harms nothing: it ends every holder on the
//! host as well, and epochs that were never stored come again only after nobody is left who used
//! them.

use std::time::Duration;

use futures_util::TryStreamExt;
use outbox_core::id::WorkerId;
use outbox_core::lease::LeaseToken;
use outbox_core::ports::ClaimRequest;
use outbox_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Either, Executor, Row};

use super::pulse::Pulse;
use super::session::Session;
use super::shared::Shared;
use crate::error::Fault;
use crate::store::SqliteStore;

/// How much shorter than asked a lease may be after a claim, as a part of it: sparing the write
/// where a claim follows on another's heels.
const TOLERANCE: u32 = 64;

/// Whose the lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The claimer's, and its session's.
    Ours,
    /// Another's, until then.
    Theirs(Timestamp),
    /// Nobody's.
    Free,
}

impl Standing {
    /// Whose the lease is, for `owner` at `now`.
    pub(super) fn of(
        pulse: &Pulse,
        session: Option<&Session>,
        owner: WorkerId,
        now: Timestamp,
    ) -> Self {
        if pulse.expires_at <= now {
            return Self::Free;
        }
        match session {
            Some(session) if session.owner == owner && session.epoch == pulse.epoch => Self::Ours,
            _ => Self::Theirs(pulse.expires_at),
        }
    }
}

/// Takes the lease, and tells the row up to which none is ready. What waits there stands for itself
/// once it is due, and does not hold up what is appended later.
pub(super) const ACQUIRE: &str = "UPDATE outbox_lease \
    SET owner = $1, epoch = epoch + 1, expires_at = $2 \
    WHERE id = 1 AND epoch = $3 AND expires_at <= $4; \
    SELECT ifnull((SELECT min(seq) - 1 FROM outbox_messages WHERE state = 0), \
        (SELECT ifnull(max(seq), 0) FROM outbox_messages))";

/// Takes the lease that was free in `pulse` and begins a session; whether nobody was faster.
pub(super) async fn acquire(
    store: &SqliteStore,
    shared: &Shared,
    owner: WorkerId,
    pulse: &Pulse,
    (now, lease): (Timestamp, Duration),
) -> Result<bool, Fault> {
    let expires_at = now + lease;
    let mut writer = store.swift_writer().await?;
    shared.take(owner, pulse.epoch + 1);
    let query = sqlx::query(ACQUIRE)
        .bind(owner.as_bytes().as_slice())
        .bind(expires_at.as_micros())
        .bind(pulse.epoch)
        .bind(now.as_micros());
    let (mut taken, mut unready) = (None, 0);
    let mut answers = Executor::fetch_many(writer.connection(), query);
    while let Some(answer) = answers.try_next().await? {
        match answer {
            // The first statement; what the second one changed is nothing.
            Either::Left(done) => taken = taken.or(Some(done.rows_affected() == 1)),
            Either::Right(row) => unready = row.try_get(0)?,
        }
    }
    drop(answers);
    writer.finish();
    let taken = taken.unwrap_or(false);
    if taken {
        let mut session = Session::new(owner, pulse.epoch + 1, expires_at);
        session.met(unready);
        shared.begin_session(session);
    }
    Ok(taken)
}

pub(super) const EXTEND: &str = "UPDATE outbox_lease SET expires_at = max(expires_at, $1) \
    WHERE id = 1 AND epoch = $2 AND owner = $3";

/// Makes the lease of `epoch` last until `until` at least; whether it is still held.
pub(super) async fn extend(
    store: &SqliteStore,
    shared: &Shared,
    (owner, epoch): (WorkerId, i64),
    until: Timestamp,
) -> Result<bool, Fault> {
    let mut writer = store.swift_writer().await?;
    let held = sqlx::query(EXTEND)
        .bind(until.as_micros())
        .bind(epoch)
        .bind(owner.as_bytes().as_slice())
        .execute(writer.connection())
        .await?
        .rows_affected();
    writer.finish();
    if held == 1 {
        shared.with_session(epoch, |session| {
            session.expires_at = session.expires_at.max(until);
        });
    } else {
        shared.end_session(epoch);
    }
    Ok(held == 1)
}

/// Makes the lease in `pulse`, which is the claimer's, last about as long as `request` asks for;
/// whether it is still held.
pub(super) async fn make_last(
    store: &SqliteStore,
    shared: &Shared,
    request: &ClaimRequest,
    pulse: &Pulse,
) -> Result<bool, Fault> {
    let until = request.now + request.lease;
    if until.since(pulse.expires_at) <= request.lease / TOLERANCE {
        return Ok(true);
    }
    extend(store, shared, (request.owner, pulse.epoch), until).await
}

/// Extends the leases behind `tokens` and answers those that are lost.
pub(super) async fn extend_tokens(
    store: &SqliteStore,
    shared: &Shared,
    tokens: &[LeaseToken],
    until: Timestamp,
) -> Result<Vec<LeaseToken>, Fault> {
    let (holder, lost) = shared.lost_among(tokens);
    let holder = holder.filter(|_| lost.len() < tokens.len());
    let Some(holder) = holder else {
        return Ok(lost);
    };
    match extend(store, shared, holder, until).await? {
        true => Ok(lost),
        false => Ok(tokens.to_vec()),
    }
}

const RELEASE: &str =
    "UPDATE outbox_lease SET expires_at = 0 WHERE id = 1 AND owner = $1 AND expires_at > 0";

/// Ends the lease of `owner`, if it has one.
pub(super) async fn release(
    store: &SqliteStore,
    shared: &Shared,
    owner: WorkerId,
) -> Result<(), Fault> {
    let mut writer = store.swift_writer().await?;
    let released = sqlx::query(RELEASE)
        .bind(owner.as_bytes().as_slice())
        .execute(writer.connection())
        .await?
        .rows_affected();
    writer.finish();
    shared.session().take_if(|session| session.owner == owner);
    if released > 0 {
        store.announce();
    }
    Ok(())
}

/// Whether the lease is still of `epoch`; asked inside a write transaction, the answer stays true
/// until it ends.
pub(super) async fn is_current(
    connection: &mut SqliteConnection,
    epoch: i64,
) -> Result<bool, Fault> {
    let current: i64 = sqlx::query_scalar("SELECT epoch FROM outbox_lease WHERE id = 1")
        .fetch_one(connection)
        .await?;
    Ok(current == epoch)
}
