//! Settling: what became of claimed rows, in one transaction that a stale lease makes fail.

use outbox_core::ports::{Outcome, Settlement};
use outbox_core::report::SettleReport;
use outbox_core::status::OnFailure;
use outbox_core::time::Timestamp;

use super::settle_any::in_full;
use super::shared::Shared;
use crate::answer;
use crate::codec::jsonb;
use crate::error::Fault;
use crate::runs::longest_run;
use crate::store::SqliteStore;

/// Settles `settlements` at `now`.
pub(super) async fn settle(
    store: &SqliteStore,
    shared: &Shared,
    settlements: &[Settlement],
    now: Timestamp,
) -> Result<SettleReport, Fault> {
    let mut settling = Settling::begin(shared, settlements);
    if !settling.ours.is_empty() {
        let held = match settling.is_simple() {
            true => publish(store, &settling, now).await?,
            false => in_full(store, &mut settling, now).await?,
        };
        if !held {
            shared.end_session(settling.epoch);
            settling.lose_all();
        }
    }
    let report = settling.end();
    let plain = |settlement: &Settlement| settlement.outcome == Outcome::Published;
    if settling.parked || !settlements.iter().all(plain) {
        store.announce();
    }
    Ok(report)
}

/// Whether a row that is settled so holds up its key.
pub(super) fn blocks(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Published | Outcome::Release => false,
        Outcome::Hold { .. } => true,
        Outcome::Retry { on_failure, .. } => *on_failure != OnFailure::SkipMessage,
        Outcome::Quarantine { on_failure, .. } => *on_failure == OnFailure::ParkKey,
    }
}

/// A settlement under way. Where it is dropped before its end, nobody knows what became of its rows:
/// they count as handed out, so that the same settlements can be tried again.
pub(super) struct Settling<'a> {
    shared: &'a Shared,
    pub(super) settlements: &'a [Settlement],
    pub(super) epoch: i64,
    /// Whether rows may be parked behind those that are settled.
    pub(super) parked: bool,
    /// Whether rows may be settled already.
    uncertain: bool,
    /// The places of those settlements whose rows the session handed out.
    pub(super) ours: Vec<usize>,
    lost: Vec<usize>,
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.shared.with_session(self.epoch, |session| {
            for place in &self.ours {
                let Settlement { token, outcome } = &self.settlements[*place];
                session.unsettled(token.sequence.0 as i64, blocks(outcome));
            }
        });
    }
}

impl<'a> Settling<'a> {
    fn begin(shared: &'a Shared, settlements: &'a [Settlement]) -> Self {
        let mut settling = Self {
            shared,
            settlements,
            epoch: 0,
            parked: false,
            uncertain: false,
            ours: Vec::with_capacity(settlements.len()),
            lost: Vec::new(),
        };
        let mut session = shared.session();
        if let Some(session) = &*session {
            settling.epoch = session.epoch;
            settling.parked = session.parked;
            settling.uncertain = session.uncertain;
        }
        for (place, Settlement { token, outcome }) in settlements.iter().enumerate() {
            let seq = token.sequence.0 as i64;
            let current = token.epoch.0 as i64 == settling.epoch;
            let ours = session
                .as_mut()
                .is_some_and(|session| current && session.begin_to_settle(seq, blocks(outcome)));
            let places = if ours {
                &mut settling.ours
            } else {
                &mut settling.lost
            };
            places.push(place);
        }
        settling
    }

    /// Whether all was published, and nothing else depends on it.
    fn is_simple(&self) -> bool {
        let published = |place: &usize| self.settlements[*place].outcome == Outcome::Published;
        !self.parked && !self.uncertain && self.ours.iter().all(published)
    }

    /// The rows of those settlements that `pick` picks.
    pub(super) fn rows(&self, pick: impl Fn(&Outcome) -> bool) -> Vec<i64> {
        let mut rows: Vec<i64> = self
            .ours
            .iter()
            .map(|place| &self.settlements[*place])
            .filter(|settlement| pick(&settlement.outcome))
            .map(|settlement| settlement.token.sequence.0 as i64)
            .collect();
        rows.sort_unstable();
        rows
    }

    /// What is not there any more was settled before, or taken away by other hands.
    pub(super) fn lose_missing(&mut self, is_there: impl Fn(i64) -> bool) {
        let settlements = self.settlements;
        let is_present = |place: &usize| is_there(settlements[*place].token.sequence.0 as i64);
        let (ours, lost): (Vec<_>, Vec<_>) = self.ours.drain(..).partition(is_present);
        self.ours = ours;
        self.shared.with_session(self.epoch, |session| {
            for place in &lost {
                let Settlement { token, outcome } = &settlements[*place];
                session.settled(token.sequence.0 as i64, blocks(outcome));
            }
        });
        self.lost.extend(lost);
    }

    fn lose_all(&mut self) {
        self.lost.append(&mut self.ours);
    }

    /// Tells the session what happened, and answers the report.
    fn end(&mut self) -> SettleReport {
        let ours = std::mem::take(&mut self.ours);
        self.shared.with_session(self.epoch, |session| {
            for place in &ours {
                let Settlement { token, outcome } = &self.settlements[*place];
                match outcome {
                    Outcome::Release => session.released(token.sequence.0 as i64),
                    _ => session.settled(token.sequence.0 as i64, blocks(outcome)),
                }
            }
        });
        let mut lost = std::mem::take(&mut self.lost);
        lost.sort_unstable();
        SettleReport {
            settled: ours.len() as u64,
            lost,
        }
    }
}

/// Fails with an overflow where the lease is of another epoch, so that the statements behind it in
/// the same text are never reached.
macro_rules! fenced {
    ($statement:literal) => {
        concat!(
            "BEGIN IMMEDIATE; ",
            "SELECT abs(iif(epoch = $1, 0, -9223372036854775807 - id)) FROM outbox_lease ",
            "WHERE id = 1; ",
            $statement,
            "; COMMIT"
        )
    };
}

/// How many statements that makes with one statement in it.
const FENCED: usize = 4;

pub(super) const DELETE_RANGE: &str =
    fenced!("DELETE FROM outbox_messages NOT INDEXED WHERE seq BETWEEN $2 AND $3 AND state = 0");
/// Rows beside a range: a fresh message that overtook a backlog does not make its whole batch a list.
pub(super) const DELETE_RANGE_AND_LIST: &str = fenced!(
    "DELETE FROM outbox_messages NOT INDEXED WHERE seq BETWEEN $2 AND $3 AND state = 0; \
     DELETE FROM outbox_messages WHERE seq IN (SELECT value FROM json_each($4)) AND state = 0"
);
pub(super) const KEEP_LIST: &str = fenced!(
    "UPDATE outbox_messages SET state = 3, settled_at = $3 \
     WHERE seq IN (SELECT value FROM json_each($2)) AND state = 0"
);

/// Settles what was published, in one round trip; whether the lease is still held.
async fn publish(
    store: &SqliteStore,
    settling: &Settling<'_>,
    now: Timestamp,
) -> Result<bool, Fault> {
    let rows = settling.rows(|_| true);
    let mut writer = store.writer().await?;
    let (query, statements) = if store.options().keep_published {
        let query = sqlx::query(KEEP_LIST)
            .bind(settling.epoch)
            .bind(jsonb::integers(rows.iter().copied()))
            .bind(now.as_micros());
        (query, FENCED)
    } else {
        let run = longest_run(&rows);
        let (first, last) = (rows[run.start], rows[run.end - 1]);
        if run.len() == rows.len() {
            let query = sqlx::query(DELETE_RANGE).bind(settling.epoch);
            (query.bind(first).bind(last), FENCED)
        } else {
            let others = rows[..run.start].iter().chain(&rows[run.end..]);
            let query = sqlx::query(DELETE_RANGE_AND_LIST).bind(settling.epoch);
            let query = query.bind(first).bind(last);
            let query = query.bind(jsonb::integers(others.copied()));
            (query, FENCED + 1)
        }
    };
    match answer::execute(writer.connection(), query, statements).await {
        Ok(()) => {
            writer.finish();
            Ok(true)
        }
        Err(fault) if fault.is_overflow() => {
            writer.rollback().await?;
            writer.finish();
            Ok(false)
        }
        Err(fault) => Err(fault),
    }
}
