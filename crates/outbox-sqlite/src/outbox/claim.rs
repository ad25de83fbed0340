//! Claiming: take or keep the lease, make ready what is due, and hand out ready rows in order.

use outbox_core::ports::ClaimRequest;
use outbox_core::report::ClaimReport;
use outbox_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::fresh;
use super::gather::Gathering;
use super::glance;
use super::lease::{self, Standing};
use super::pulse::{self, Outlook, Pulse};
use super::ready::{self, MadeReady};
use super::shared::Shared;
use crate::error::Fault;
use crate::store::SqliteStore;

/// So many rows that are ready again are enough: no more are made ready before they are claimed.
const ENOUGH_AGAIN: usize = 4_000;

/// Claims for `request`; only one at a time, see [`Shared::claiming`].
pub(super) async fn claim(
    store: &SqliteStore,
    shared: &Shared,
    request: &ClaimRequest,
) -> Result<ClaimReport, Fault> {
    if let Some(report) = fresh::claim(store, shared, request).await? {
        return Ok(report);
    }
    if let Some(report) = glance::claim(store, shared, request).await? {
        return Ok(report);
    }
    let mut reader = store.reader().await?;
    let report = claim_on(store, shared, reader.connection(), request).await?;
    reader.finish();
    Ok(report)
}

async fn claim_on(
    store: &SqliteStore,
    shared: &Shared,
    reader: &mut SqliteConnection,
    request: &ClaimRequest,
) -> Result<ClaimReport, Fault> {
    let (pulse, standing) = look(shared, reader, request).await?;
    if let Standing::Theirs(until) = standing {
        return Ok(later(until));
    }
    let outlook = match pulse.waiting {
        true => pulse::outlook(reader, &request.paused_topics, request.now).await?,
        false => Outlook::default(),
    };
    let again = match standing {
        Standing::Ours => shared
            .session()
            .as_ref()
            .map_or(0, |session| session.again_count()),
        _ => 0,
    };
    let unready = !outlook.due.is_empty() || pulse.unparking;
    if !pulse.fresh && again == 0 && !unready {
        return Ok(ClaimReport {
            next_due: outlook.next_due,
            ..ClaimReport::default()
        });
    }
    let Some(epoch) = hold_lease(store, shared, request, &pulse, standing).await? else {
        return Ok(look_again());
    };
    let mut made_ready = MadeReady::default();
    if unready && again < ENOUGH_AGAIN {
        let made = ready::make_ready(store, shared, epoch, &outlook.due, request.now).await?;
        let Some(made) = made else {
            return Ok(look_again());
        };
        made_ready = made;
    }
    let gathering = Gathering {
        store,
        shared,
        request,
        epoch,
        blocking: pulse.blocking,
        fresh: pulse.fresh || made_ready.any,
    };
    let mut report = gathering.run(reader).await?.unwrap_or_else(look_again);
    report.more |= made_ready.more;
    report.next_due = outlook.next_due;
    Ok(report)
}

/// Nothing before `until`.
fn later(until: Timestamp) -> ClaimReport {
    ClaimReport {
        next_due: Some(until),
        ..ClaimReport::default()
    }
}

/// Nothing now, but things have changed.
fn look_again() -> ClaimReport {
    ClaimReport {
        more: true,
        ..ClaimReport::default()
    }
}

/// What there is to do and whose the lease is; where it is not the claimer's any more, every row
/// counts as not met.
async fn look(
    shared: &Shared,
    reader: &mut SqliteConnection,
    request: &ClaimRequest,
) -> Result<(Pulse, Standing), Fault> {
    let high = shared
        .session()
        .as_ref()
        .map_or(0, |session| session.high());
    let pulse = pulse::feel(reader, high).await?;
    let standing = shared.standing(&pulse, request);
    if standing == Standing::Ours || high == 0 {
        return Ok((pulse, standing));
    }
    let pulse = pulse::feel(reader, 0).await?;
    let standing = shared.standing(&pulse, request);
    Ok((pulse, standing))
}

/// Takes the lease, or makes it last; its epoch, or `None` where it was lost to another.
async fn hold_lease(
    store: &SqliteStore,
    shared: &Shared,
    request: &ClaimRequest,
    pulse: &Pulse,
    standing: Standing,
) -> Result<Option<i64>, Fault> {
    let epoch = if standing == Standing::Ours {
        let held = lease::make_last(store, shared, request, pulse).await?;
        held.then_some(pulse.epoch)
    } else {
        let times = (request.now, request.lease);
        let taken = lease::acquire(store, shared, request.owner, pulse, times).await?;
        taken.then_some(pulse.epoch + 1)
    };
    let begun = epoch.and_then(|epoch| {
        shared.with_session(epoch, |session| {
            session.calm = pulse.is_calm();
            session.begin_claim(pulse.blocking);
        })
    });
    Ok(epoch.filter(|_| begun.is_some()))
}
