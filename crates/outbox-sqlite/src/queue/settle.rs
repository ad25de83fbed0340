use std::collections::HashSet;

use outbox_core::lease::Receipt;
use outbox_core::ports::{DeliveryOutcome, DeliverySettlement};
use outbox_core::report::SettleReport;
use outbox_core::status::{AttemptRecord, HISTORY_LENGTH};
use outbox_core::time::Timestamp;
use serde::Serialize;
use sqlx::sqlite::SqliteConnection;

use super::holding::{Claimed, Held, Holding, Proof};
use super::port::Inner;
use super::quarantine::Dead;
use crate::codec::jsonb;
use crate::error::Fault;
use crate::quarantine::json;

/// Gives entries back for the first time: they leave their run for rows of their own.
pub(super) const GIVE_BACK: &str = "\
    INSERT INTO outbox_returned \
        (place, queue, due_at, enqueued_at, attempts, takeovers, first_failed_at, history, body) \
    SELECT e.place, ?1, j.value ->> 'due_at', e.enqueued_at, j.value ->> 'attempts', \
        j.value ->> 'takeovers', j.value ->> 'failed_at', \
        coalesce(j.value -> 'history', '[]'), e.body \
    FROM json_each(?2) AS j CROSS JOIN outbox_entries AS e ON e.place = j.value ->> 'place'";

/// Gives entries back again.
pub(super) const GIVE_BACK_AGAIN: &str = "\
    UPDATE outbox_returned SET token = 0, owner = NULL, due_at = j.value ->> 'due_at', \
        attempts = attempts + (j.value ->> 'attempts'), \
        takeovers = iif(j.value ->> 'attempts', 0, takeovers), \
        first_failed_at = coalesce(first_failed_at, j.value ->> 'failed_at'), \
        history = CASE WHEN j.value -> 'history' IS NULL THEN history ELSE json_insert( \
            CASE WHEN json_array_length(history) < ?2 THEN history \
                ELSE json_remove(history, '$[0]') END, \
            '$[#]', j.value -> '$.history[0]') END \
    FROM json_each(?1) AS j WHERE outbox_returned.place = j.value ->> 'place'";

pub(super) const DELETE: &str =
    "DELETE FROM outbox_entries WHERE place IN (SELECT value FROM json_each(?1))";

pub(super) const DELETE_RETURNED: &str =
    "DELETE FROM outbox_returned WHERE place IN (SELECT value FROM json_each(?1))";

/// Ends the claims of which nothing is left, counts what left the queue, and commits.
macro_rules! close {
    () => {
        "DELETE FROM outbox_claims WHERE queue = $1 \
        AND token IN (SELECT value FROM json_each($2)) \
        AND NOT EXISTS (SELECT 1 FROM outbox_entries WHERE place BETWEEN low AND high); \
        UPDATE outbox_queues SET depth = depth - $3 WHERE queue = $1; \
        COMMIT"
    };
}
pub(super) use close;

pub(super) const CLOSE: &str = close!();

/// What a settlement does to a held entry.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Done,
    Back {
        due_at: Timestamp,
        failure: Option<AttemptRecord>,
    },
    Dead {
        failure: AttemptRecord,
        /// Whether this was an attempt; an entry that cannot be read was never tried.
        counts: bool,
    },
}

impl From<&DeliveryOutcome> for Verdict {
    fn from(outcome: &DeliveryOutcome) -> Self {
        match outcome.clone() {
            DeliveryOutcome::Done => Self::Done,
            DeliveryOutcome::Retry { due_at, failure } => Self::Back {
                due_at,
                failure: Some(failure),
            },
            DeliveryOutcome::Delay { due_at } => Self::Back {
                due_at,
                failure: None,
            },
            DeliveryOutcome::Quarantine { failure } => Self::Dead {
                failure,
                counts: true,
            },
        }
    }
}

/// An entry that is given back, as SQL reads it.
#[derive(Serialize)]
struct Back<'a> {
    place: i64,
    due_at: i64,
    attempts: u32,
    /// How often it was taken over since its last failure; of no matter where it stands for itself.
    takeovers: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<[&'a AttemptRecord; 1]>,
}

impl<'a> Back<'a> {
    fn new(held: Held, due_at: Timestamp, failure: Option<&'a AttemptRecord>) -> Self {
        let (place, takeovers) = match held {
            Held::Fresh(place, takeovers) if failure.is_none() => (place, takeovers),
            Held::Fresh(place, _) | Held::Returned(place) => (place, 0),
        };
        Self {
            place,
            due_at: due_at.as_micros(),
            attempts: u32::from(failure.is_some()),
            takeovers,
            failed_at: failure.map(|failure| failure.at.as_micros()),
            history: failure.map(|failure| [failure]),
        }
    }
}

/// What is to be written for a whole call.
#[derive(Default)]
struct Plan<'a> {
    /// Entries that leave their runs, for whatever reason.
    leaving: Vec<i64>,
    /// Entries of their own rows that leave the queue.
    leaving_returned: Vec<i64>,
    back: Vec<Back<'a>>,
    back_again: Vec<Back<'a>>,
    dead: Vec<Dead<'a>>,
    /// How many entries leave the queue.
    settled: i64,
}

impl<'a> Plan<'a> {
    fn add(&mut self, held: Held, verdict: &'a Verdict) {
        let (place, fresh) = match held {
            Held::Fresh(place, _) => (place, true),
            Held::Returned(place) => (place, false),
        };
        if fresh {
            self.leaving.push(place);
        }
        if let Verdict::Back { due_at, failure } = verdict {
            let back = Back::new(held, *due_at, failure.as_ref());
            let list = if fresh {
                &mut self.back
            } else {
                &mut self.back_again
            };
            return list.push(back);
        }
        if let Verdict::Dead { failure, counts } = verdict {
            self.dead.push(Dead {
                place,
                failure,
                counts: *counts,
            });
        }
        if !fresh {
            self.leaving_returned.push(place);
        }
        self.settled += 1;
    }

    /// The entries that are done, in order, where there is nothing else to it.
    fn plainly_done(&mut self) -> Option<&[i64]> {
        let others = self.dead.is_empty() && self.leaving_returned.is_empty();
        if !others || self.gives_back() || self.leaving.is_empty() {
            return None;
        }
        self.leaving.sort_unstable();
        Some(&self.leaving)
    }

    fn gives_back(&self) -> bool {
        !self.back.is_empty() || !self.back_again.is_empty()
    }
}

impl Inner {
    pub(super) async fn settle(
        &self,
        settlements: &[DeliverySettlement],
        now: Timestamp,
    ) -> Result<SettleReport, Fault> {
        if settlements.is_empty() {
            return Ok(SettleReport::default());
        }
        let receipts: Vec<_> = settlements.iter().map(|one| one.receipt).collect();
        let verdicts: Vec<_> = settlements
            .iter()
            .map(|one| Verdict::from(&one.outcome))
            .collect();
        self.judge(&receipts, &verdicts, now).await
    }

    /// Settles `receipts` by `verdicts`, on trust first and by proof where that was misplaced.
    pub(super) async fn judge(
        &self,
        receipts: &[Receipt],
        verdicts: &[Verdict],
        now: Timestamp,
    ) -> Result<SettleReport, Fault> {
        let on_trust = (Proof::Run, now);
        if let Some(report) = self.try_to_judge(receipts, verdicts, on_trust).await? {
            return Ok(report);
        }
        let by_proof = self
            .try_to_judge(receipts, verdicts, (Proof::Row, now))
            .await?;
        Ok(by_proof.unwrap_or_else(|| SettleReport {
            settled: 0,
            lost: (0..receipts.len()).collect(),
        }))
    }

    /// As [`Inner::judge`]; `None` where the trust was misplaced, and nothing was changed.
    async fn try_to_judge(
        &self,
        receipts: &[Receipt],
        verdicts: &[Verdict],
        (proof, now): (Proof, Timestamp),
    ) -> Result<Option<SettleReport>, Fault> {
        let mut writer = self.store.writer().await?;
        let connection = writer.connection();
        let mut holding = self.begin_holding(connection, receipts, proof).await?;
        strike_repeated(&mut holding.held);
        let (mut plan, report) = plan(&holding, verdicts);
        if let Some(places) = plan.plainly_done() {
            let claims = &holding.claims;
            let settled = self.settle_at_once(&mut writer, claims, places).await?;
            writer.finish();
            if settled {
                self.room.note_left();
            }
            return Ok(settled.then_some(report));
        }
        let connection = writer.connection();
        let nothing = report.settled == 0;
        if nothing || !self.carry_out(connection, &plan, now).await? {
            writer.rollback().await?;
            writer.finish();
            return Ok(nothing.then_some(report));
        }
        self.commit_settled(connection, &holding.claims, plan.settled)
            .await?;
        writer.finish();
        if plan.settled > 0 {
            self.room.note_left();
        }
        if plan.gives_back() {
            self.store.announce();
        }
        Ok(Some(report))
    }

    /// Writes `plan`; whether everything was where it was said to be.
    async fn carry_out(
        &self,
        connection: &mut SqliteConnection,
        plan: &Plan<'_>,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        self.give_back(connection, plan).await?;
        self.quarantine(connection, &plan.dead, now).await?;
        if !plan.leaving_returned.is_empty() {
            delete(connection, DELETE_RETURNED, &plan.leaving_returned).await?;
        }
        Ok(plan.leaving.is_empty() || delete(connection, DELETE, &plan.leaving).await?)
    }

    async fn commit_settled(
        &self,
        connection: &mut SqliteConnection,
        claims: &[Claimed],
        settled: i64,
    ) -> Result<(), Fault> {
        let tokens = claims.iter().map(|claim| claim.token);
        sqlx::query(CLOSE)
            .bind(self.queue)
            .bind(jsonb::integers(tokens))
            .bind(settled)
            .execute(connection)
            .await?;
        Ok(())
    }

    async fn give_back(
        &self,
        connection: &mut SqliteConnection,
        plan: &Plan<'_>,
    ) -> Result<(), Fault> {
        if !plan.back.is_empty() {
            sqlx::query(GIVE_BACK)
                .bind(self.queue)
                .bind(json(&plan.back)?)
                .execute(&mut *connection)
                .await?;
        }
        if !plan.back_again.is_empty() {
            sqlx::query(GIVE_BACK_AGAIN)
                .bind(json(&plan.back_again)?)
                .bind(HISTORY_LENGTH as i64)
                .execute(connection)
                .await?;
        }
        Ok(())
    }
}

/// Strikes all but the first of what is held by several receipts of a call.
fn strike_repeated(held: &mut [Option<Held>]) {
    let mut seen = HashSet::with_capacity(held.len());
    for slot in held {
        if let Some(Held::Fresh(place, _) | Held::Returned(place)) = slot
            && !seen.insert(*place)
        {
            *slot = None;
        }
    }
}

fn plan<'a>(holding: &Holding, verdicts: &'a [Verdict]) -> (Plan<'a>, SettleReport) {
    let (mut plan, mut report) = (Plan::default(), SettleReport::default());
    for (place, (held, verdict)) in holding.held.iter().zip(verdicts).enumerate() {
        match held {
            Some(held) => {
                plan.add(*held, verdict);
                report.settled += 1;
            }
            None => report.lost.push(place),
        }
    }
    (plan, report)
}

/// Deletes the entries at `places`; whether all of them were there.
async fn delete(
    connection: &mut SqliteConnection,
    sql: &'static str,
    places: &[i64],
) -> Result<bool, Fault> {
    let deleted = sqlx::query(sql)
        .bind(jsonb::integers(places.iter().copied()))
        .execute(connection)
        .await?;
    Ok(deleted.rows_affected() == places.len() as u64)
}
