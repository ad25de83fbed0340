//! Reading ready rows and handing them out, in order.

use std::collections::HashMap;
use std::sync::Arc;

use outbox_core::delivery::Leased;
use outbox_core::lease::{Epoch, LeaseToken, Sequence};
use outbox_core::message::Message;
use outbox_core::ports::ClaimRequest;
use outbox_core::report::ClaimReport;
use outbox_core::status::AttemptRecord;
use sqlx::sqlite::SqliteConnection;

use super::aside::{self, Aside};
use super::history;
use super::read::{self, Found, Rows};
use super::session::Key;
use super::shared::Shared;
use crate::error::Fault;
use crate::store::SqliteStore;

/// How often one claim looks again because what it found was set aside.
const ROUNDS: usize = 8;

/// The second half of a claim: rows are read and handed out, under the lease of `epoch`.
pub(super) struct Gathering<'a> {
    pub(super) store: &'a SqliteStore,
    pub(super) shared: &'a Shared,
    pub(super) request: &'a ClaimRequest,
    pub(super) epoch: i64,
    /// Whether rows can be blocked by others.
    pub(super) blocking: bool,
    /// Whether there are rows that were not met.
    pub(super) fresh: bool,
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
                session.released(leased.message.sequence.0 as i64);
            }
        });
    }
}

/// What one read found, in order.
struct Batch {
    rows: Vec<Found>,
    /// The failed attempts of those that have any.
    histories: HashMap<i64, Vec<AttemptRecord>>,
    /// The last row met by it.
    end: i64,
}

impl Gathering<'_> {
    /// Hands out up to the asked number of rows; `None` where the lease was lost meanwhile.
    pub(super) async fn run(
        &self,
        reader: &mut SqliteConnection,
    ) -> Result<Option<ClaimReport>, Fault> {
        let mut report = ClaimReport::default();
        let mut out = HandedOut {
            shared: self.shared,
            epoch: self.epoch,
            leased: Vec::new(),
        };
        let mut fresh = self.fresh;
        let mut blocking = self.blocking;
        let mut again_behind = 0;
        for round in 0..ROUNDS {
            let room = self.request.max.saturating_sub(out.leased.len());
            let Some((again, high)) = self.outstanding(again_behind, room, fresh && round == 0)
            else {
                return Ok(None);
            };
            if room == 0 || (!fresh && again.is_empty()) {
                break;
            }
            let mut set_aside = Aside::default();
            if let Some(last) = again.last() {
                again_behind = *last;
                let (batch, cut) = self.read(reader, Rows::Listed(&again), blocking).await?;
                report.more |= cut;
                self.forget_missing(&again, &batch, cut);
                self.hand_out(batch, &mut out, &mut set_aside);
            }
            let room = self.request.max.saturating_sub(out.leased.len());
            if fresh && room > 0 {
                let (batch, cut) = self
                    .read(reader, Rows::Behind(high, room), blocking)
                    .await?;
                fresh = cut || batch.rows.len() == room;
                let batch = self.meet(batch);
                self.hand_out(batch, &mut out, &mut set_aside);
            }
            // What is set aside now blocks its key in the next round.
            blocking |= !set_aside.held.is_empty();
            if !self.set_aside(set_aside, &mut report).await? {
                return Ok(None);
            }
        }
        self.looked_in_order(fresh);
        let leftover = self
            .shared
            .with_session(self.epoch, |session| session.again_count() > 0);
        report.more |= fresh || leftover.unwrap_or(true);
        report.leased = std::mem::take(&mut out.leased);
        report
            .leased
            .sort_unstable_by_key(|leased| leased.message.sequence);
        Ok(Some(report))
    }

    /// Hands out `rows`, all fresh and readable and the first of their kind; `None` where the lease
    /// was lost meanwhile.
    pub(super) fn take(&self, rows: Vec<Found>) -> Option<ClaimReport> {
        let mut out = HandedOut {
            shared: self.shared,
            epoch: self.epoch,
            leased: Vec::with_capacity(rows.len()),
        };
        let full = rows.len() == self.request.max;
        let batch = Batch {
            end: rows.last().map_or(0, |row| row.seq),
            histories: HashMap::new(),
            rows,
        };
        let batch = self.meet(batch);
        self.hand_out(batch, &mut out, &mut Aside::default());
        self.looked_in_order(full);
        let leftover = self
            .shared
            .with_session(self.epoch, |session| session.again_count() > 0)?;
        Some(ClaimReport {
            leased: std::mem::take(&mut out.leased),
            more: full || leftover,
            ..ClaimReport::default()
        })
    }

    /// Hands out `rows`, all of them fresh, beside a backlog; fresh ones were looked at up to `end`.
    /// `None` where there are none.
    pub(super) fn take_fresh(&self, rows: Vec<Found>, end: i64) -> Option<ClaimReport> {
        let mut leased = Vec::with_capacity(rows.len());
        self.shared.with_session(self.epoch, |session| {
            for row in rows {
                // An unreadable one is met in its turn.
                if let Ok(message) = row.message {
                    session.hand_out(row.seq, None);
                    leased.push(self.lease(row.seq, row.attempts, message, Vec::new()));
                }
            }
            let seqs = leased.iter().map(|one| one.message.sequence.0 as i64);
            session.share.looked(end, seqs);
        });
        (!leased.is_empty()).then_some(ClaimReport {
            leased,
            more: true,
            ..ClaimReport::default()
        })
    }

    fn looked_in_order(&self, more: bool) {
        self.shared
            .with_session(self.epoch, |session| session.looked_in_order(more));
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
        blocking: bool,
    ) -> Result<(Batch, bool), Fault> {
        let (rows, cut) = read::read(reader, rows, blocking).await?;
        let batch = Batch {
            end: rows.last().map_or(0, |row| row.seq),
            histories: history::of_rows(reader, &rows).await?,
            rows,
        };
        Ok((batch, cut))
    }

    /// Rows that were to be read again and are gone, taken away by other hands.
    fn forget_missing(&self, again: &[i64], batch: &Batch, cut: bool) {
        self.shared.with_session(self.epoch, |session| {
            let mut found = batch.rows.iter().map(|row| row.seq).peekable();
            for seq in again.iter().filter(|seq| !cut || **seq <= batch.end) {
                if found.next_if_eq(seq).is_none() {
                    session.left(*seq);
                }
            }
        });
    }

    /// Notes that `batch` is met, but for what was handed out beside the backlog that it belongs to.
    fn meet(&self, mut batch: Batch) -> Batch {
        self.shared.with_session(self.epoch, |session| {
            session.met(batch.end);
            batch.rows.retain(|row| !session.share.has(row.seq));
        });
        batch
    }

    /// Hands out what may be handed out and notes what is to be set aside; no await lies between, so
    /// that the session never forgets a row.
    fn hand_out(&self, mut batch: Batch, out: &mut HandedOut<'_>, set_aside: &mut Aside) {
        let now_held = self.shared.with_session(self.epoch, |session| {
            for row in batch.rows {
                let seq = row.seq;
                let message = match row.message {
                    Ok(message) => message,
                    Err(obstacle) => {
                        session.ready_again(seq, None);
                        set_aside.note(seq, obstacle);
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
                    out.leased
                        .push(self.lease(seq, row.attempts, message, history));
                } else {
                    session.ready_again(seq, key);
                }
            }
        });
        if now_held.is_none() {
            out.leased.clear();
        }
    }

    fn lease(
        &self,
        seq: i64,
        attempts: u32,
        mut message: Message,
        history: Vec<AttemptRecord>,
    ) -> Leased {
        message.sequence = Sequence(seq as u64);
        message.epoch = Epoch(self.epoch as u64);
        Leased {
            token: LeaseToken {
                sequence: message.sequence,
                epoch: message.epoch,
            },
            message,
            attempt: attempts.saturating_add(1),
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
