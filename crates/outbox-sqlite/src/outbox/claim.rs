//! Claiming: take or keep the lease, make ready what is due, and hand out ready rows in order.

use std::collections::HashMap;
use std::sync::Arc;

use outbox_core::delivery::Leased;
use outbox_core::lease::{Epoch, LeaseToken, Sequence};
use outbox_core::message::Message;
use outbox_core::ports::ClaimRequest;
use outbox_core::report::ClaimReport;
use outbox_core::status::AttemptRecord;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::aside::{self, Aside};
use super::lease::{self, Standing};
use super::pulse::{self, Outlook, Pulse};
use super::read::{self, Planned, Rows};
use super::ready::{self, MadeReady};
use super::session::Key;
use super::shared::Shared;
use crate::codec::jsonb;
use crate::error::Fault;
use crate::store::SqliteStore;

/// How often one claim looks again because what it found was set aside.
const ROUNDS: usize = 8;
/// So many rows that are ready again are enough: no more are made ready before they are claimed.
const ENOUGH_AGAIN: usize = 4_000;

/// Claims for `request`; only one at a time, see [`Shared::claiming`].
pub(super) async fn claim(
    store: &SqliteStore,
    shared: &Shared,
    request: &ClaimRequest,
) -> Result<ClaimReport, Fault> {
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
    let claim = Claim {
        store,
        shared,
        request,
        epoch,
        blocking: pulse.blocking,
        fresh: pulse.fresh || made_ready.any,
    };
    let mut report = claim.gather(reader).await?;
    report.more |= made_ready.more;
    report.next_due = outlook.next_due;
    Ok(report)
}

/// Nothing before `until`.
fn later(until: outbox_core::time::Timestamp) -> ClaimReport {
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
    let (owner, lease, now) = (request.owner, request.lease, request.now);
    let epoch = if standing == Standing::Ours {
        let until = now + lease;
        let held = lease::is_long_enough(pulse.expires_at, until, lease)
            || lease::extend(store, shared, (owner, pulse.epoch), until).await?;
        held.then_some(pulse.epoch)
    } else {
        let taken = lease::acquire(store, shared, owner, pulse, (now, lease)).await?;
        taken.then_some(pulse.epoch + 1)
    };
    let begun = epoch.and_then(|epoch| {
        shared.with_session(epoch, |session| session.begin_claim(pulse.blocking))
    });
    Ok(epoch.filter(|_| begun.is_some()))
}

/// A claim under way, under the lease of `epoch`.
struct Claim<'a> {
    store: &'a SqliteStore,
    shared: &'a Shared,
    request: &'a ClaimRequest,
    epoch: i64,
    /// Whether rows can be blocked by others.
    blocking: bool,
    /// Whether there are rows that were not met.
    fresh: bool,
}

/// Rows that a claim handed out; given back where the claim ends before it has answered.
struct HandedOut<'a> {
    shared: &'a Shared,
    epoch: i64,
    leased: Vec<Leased>,
}

impl Drop for HandedOut<'_> {
    fn drop(&mut self) {
        self.shared.with_session(self.epoch, |session| {
            for leased in &self.leased {
                session.take_back(leased.message.sequence.0 as i64);
            }
        });
    }
}

/// One read's rows with their messages, in order.
struct Batch {
    rows: Vec<(Planned, Result<Message, String>)>,
    histories: HashMap<i64, Vec<AttemptRecord>>,
    /// The last row met by it.
    end: i64,
}

impl Claim<'_> {
    async fn gather(&self, reader: &mut SqliteConnection) -> Result<ClaimReport, Fault> {
        let mut report = ClaimReport::default();
        let mut out = HandedOut {
            shared: self.shared,
            epoch: self.epoch,
            leased: Vec::new(),
        };
        let mut fresh = self.fresh;
        let mut again_behind = 0;
        for round in 0..ROUNDS {
            let room = self.request.max.saturating_sub(out.leased.len());
            let Some((again, high)) = self.outstanding(again_behind, room, fresh && round == 0)
            else {
                return Ok(look_again());
            };
            if room == 0 || (!fresh && again.is_empty()) {
                break;
            }
            let mut set_aside = Aside::default();
            if let Some(last) = again.last() {
                again_behind = *last;
                let (batch, cut) = self.read(reader, Rows::Listed(&again)).await?;
                report.more |= cut;
                self.forget_missing(&again, &batch, cut);
                self.hand_out(batch, &mut out, &mut set_aside);
            }
            let room = self.request.max.saturating_sub(out.leased.len());
            if fresh && room > 0 {
                let (batch, cut) = self.read(reader, Rows::Behind(high, room)).await?;
                fresh = cut || batch.rows.len() == room;
                self.hand_out(batch, &mut out, &mut set_aside);
            }
            if !self.set_aside(set_aside, &mut report).await? {
                return Ok(look_again());
            }
        }
        let leftover = self
            .shared
            .with_session(self.epoch, |session| session.again_count() > 0);
        report.more |= fresh || leftover.unwrap_or(true);
        report.leased = std::mem::take(&mut out.leased);
        report
            .leased
            .sort_unstable_by_key(|leased| leased.message.sequence);
        Ok(report)
    }

    /// Rows to be read again, and behind which row the fresh ones begin. Where there are fresh ones,
    /// a part of the room is theirs: a long backlog that became ready again does not hold them up.
    fn outstanding(&self, behind: i64, room: usize, share: bool) -> Option<(Vec<i64>, i64)> {
        let quota = if share { room - room / 4 } else { room };
        self.shared.with_session(self.epoch, |session| {
            (session.again_behind(behind, quota), session.high())
        })
    }

    async fn read(
        &self,
        reader: &mut SqliteConnection,
        rows: Rows<'_>,
    ) -> Result<(Batch, bool), Fault> {
        let (planned, cut) = read::plan(reader, rows, self.blocking).await?;
        let end = planned.last().map_or(0, |row| row.seq);
        let free: Vec<Planned> = planned.iter().filter(|row| !row.blocked).copied().collect();
        let Some(bodies) = read::bodies(reader, &free).await? else {
            return Ok((Batch::empty(), true));
        };
        let mut bodies = bodies.into_iter();
        let mut rows = Vec::with_capacity(planned.len());
        for row in planned {
            let body = if row.blocked { None } else { bodies.next() };
            let message = match body {
                None => Err(String::new()),
                Some(body) => read::message(reader, row.seq, &body)
                    .await?
                    .map_err(|damage| damage.to_string()),
            };
            rows.push((row, message));
        }
        let histories = histories(reader, &rows).await?;
        Ok((
            Batch {
                rows,
                histories,
                end,
            },
            cut,
        ))
    }

    /// Rows that were to be read again and are gone, taken away by other hands.
    fn forget_missing(&self, again: &[i64], batch: &Batch, cut: bool) {
        self.shared.with_session(self.epoch, |session| {
            let mut found = batch.rows.iter().map(|(row, _)| row.seq).peekable();
            for seq in again.iter().filter(|seq| !cut || **seq <= batch.end) {
                if found.next_if_eq(seq).is_none() {
                    session.left(*seq);
                }
            }
        });
    }

    /// Hands out what may be handed out and notes what is to be set aside; no await lies between, so
    /// that the session never forgets a row.
    fn hand_out(&self, mut batch: Batch, out: &mut HandedOut<'_>, set_aside: &mut Aside) {
        let now_held = self.shared.with_session(self.epoch, |session| {
            session.met(batch.end);
            for (row, message) in batch.rows {
                let seq = row.seq;
                let message = match message {
                    Ok(message) => message,
                    Err(problem) => {
                        session.ready_again(seq, None);
                        match row.blocked {
                            true => set_aside.parked.push(seq),
                            false => set_aside.unreadable.push((seq, problem)),
                        }
                        continue;
                    }
                };
                let key: Option<Key> = message.ordering_key.as_deref().map(Arc::from);
                if self.request.paused_topics.contains(&message.topic) {
                    session.ready_again(seq, key);
                    set_aside.held.push((seq, message.topic));
                } else if session.is_in_order(seq, key.as_deref()) {
                    session.hand_out(seq, key);
                    let history = batch.histories.remove(&seq).unwrap_or_default();
                    out.leased.push(self.lease(row, message, history));
                } else {
                    session.ready_again(seq, key);
                }
            }
        });
        if now_held.is_none() {
            out.leased.clear();
        }
    }

    fn lease(&self, row: Planned, mut message: Message, history: Vec<AttemptRecord>) -> Leased {
        message.sequence = Sequence(row.seq as u64);
        message.epoch = Epoch(self.epoch as u64);
        Leased {
            token: LeaseToken {
                sequence: message.sequence,
                epoch: message.epoch,
            },
            message,
            attempt: row.attempts.saturating_add(1),
            history,
        }
    }

    /// Writes down what is set aside; whether the lease is still held.
    async fn set_aside(&self, aside: Aside, report: &mut ClaimReport) -> Result<bool, Fault> {
        let (store, shared, epoch) = (self.store, self.shared, self.epoch);
        if !aside::park_and_hold(store, shared, epoch, &aside).await? {
            return Ok(false);
        }
        let (rows, now) = (&aside.unreadable, self.request.now);
        let told = aside::quarantine_unreadable(store, shared, epoch, rows, now).await?;
        let held = told.is_some();
        report.unreadable.extend(told.into_iter().flatten());
        Ok(held)
    }
}

impl Batch {
    fn empty() -> Self {
        Self {
            rows: Vec::new(),
            histories: HashMap::new(),
            end: 0,
        }
    }
}

/// The failed attempts of those rows that have any.
async fn histories(
    reader: &mut SqliteConnection,
    rows: &[(Planned, Result<Message, String>)],
) -> Result<HashMap<i64, Vec<AttemptRecord>>, Fault> {
    let tried = rows
        .iter()
        .filter(|(row, _)| row.attempts > 0 && !row.blocked);
    let tried: Vec<i64> = tried.map(|(row, _)| row.seq).collect();
    let mut histories = HashMap::new();
    if tried.is_empty() {
        return Ok(histories);
    }
    let found = sqlx::query(
        "SELECT seq, history FROM outbox_messages \
         WHERE seq IN (SELECT value FROM json_each($1)) AND history IS NOT NULL",
    )
    .bind(jsonb::integers(tried))
    .fetch_all(reader)
    .await?;
    for row in found {
        histories.insert(row.try_get(0)?, history_in(row.try_get(1)?));
    }
    Ok(histories)
}

/// The attempts in a history; one that cannot be read is told, and costs the message nothing.
pub(super) fn history_in(text: &str) -> Vec<AttemptRecord> {
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(%error, "a stored history of attempts cannot be read");
        Vec::new()
    })
}
