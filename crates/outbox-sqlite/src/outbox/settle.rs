//! Settling: what became of claimed rows, in one transaction that a stale lease makes fail.

use std::collections::HashMap;

use bytes::Bytes;
use outbox_core::ports::{Outcome, Settlement};
use outbox_core::report::SettleReport;
use outbox_core::status::{AttemptRecord, OnFailure};
use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::claim::history_in;
use super::lease;
use super::shared::Shared;
use crate::codec::{body, jsonb};
use crate::error::Fault;
use crate::quarantine::{self, Entry};
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
            false => settling.in_full(store, now).await?,
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
fn blocks(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Published | Outcome::Release => false,
        Outcome::Hold { .. } => true,
        Outcome::Retry { on_failure, .. } => *on_failure != OnFailure::SkipMessage,
        Outcome::Quarantine { on_failure, .. } => *on_failure == OnFailure::ParkKey,
    }
}

/// A settlement under way. Where it is dropped before its end, nobody knows what became of its rows:
/// they count as handed out, so that the same settlements can be tried again.
struct Settling<'a> {
    shared: &'a Shared,
    settlements: &'a [Settlement],
    epoch: i64,
    /// Whether rows may be parked behind those that are settled.
    parked: bool,
    /// Whether rows may be settled already.
    uncertain: bool,
    /// The places of those settlements whose rows the session handed out.
    ours: Vec<usize>,
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
    fn rows(&self, pick: impl Fn(&Outcome) -> bool) -> Vec<i64> {
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

const DELETE_RANGE: &str =
    fenced!("DELETE FROM outbox_messages NOT INDEXED WHERE seq BETWEEN $2 AND $3 AND state = 0");
const DELETE_LIST: &str = fenced!(
    "DELETE FROM outbox_messages WHERE seq IN (SELECT value FROM json_each($2)) AND state = 0"
);
const KEEP_LIST: &str = fenced!(
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
    let span = rows[rows.len() - 1] - rows[0] + 1;
    let mut writer = store.writer().await?;
    let query = if store.options().keep_published {
        sqlx::query(KEEP_LIST)
            .bind(settling.epoch)
            .bind(jsonb::integers(rows.iter().copied()))
            .bind(now.as_micros())
    } else if span == rows.len() as i64 {
        sqlx::query(DELETE_RANGE)
            .bind(settling.epoch)
            .bind(rows[0])
            .bind(rows[rows.len() - 1])
    } else {
        sqlx::query(DELETE_LIST)
            .bind(settling.epoch)
            .bind(jsonb::integers(rows.iter().copied()))
    };
    match query.execute(writer.connection()).await {
        Ok(_) => {
            writer.finish();
            Ok(true)
        }
        Err(error) if error.to_string().contains("integer overflow") => {
            writer.rollback().await?;
            writer.finish();
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

impl Settling<'_> {
    /// Settles any outcomes, statement by statement; whether the lease is still held.
    async fn in_full(&mut self, store: &SqliteStore, now: Timestamp) -> Result<bool, Fault> {
        let mut writer = store.writer().await?;
        writer.begin().await?;
        let connection = writer.connection();
        if !lease::is_current(connection, self.epoch).await? {
            writer.rollback().await?;
            writer.finish();
            return Ok(false);
        }
        let mut present = self.present(connection).await?;
        self.lose_missing(&present);
        self.unpark_later(connection).await?;
        let published = self.rows(|outcome| *outcome == Outcome::Published);
        remove_published(connection, &published, store.options().keep_published, now).await?;
        let mut waiting = Vec::new();
        for place in &self.ours {
            let Settlement { token, outcome } = &self.settlements[*place];
            let seq = token.sequence.0 as i64;
            let Some(row) = present.remove(&seq) else {
                continue;
            };
            match outcome {
                Outcome::Published | Outcome::Release => {}
                Outcome::Hold { until } => waiting.push(row.held(seq, *until)),
                Outcome::Retry {
                    due_at,
                    failure,
                    on_failure,
                } => {
                    waiting.push(row.to_retry(seq, *due_at, failure, *on_failure)?);
                }
                Outcome::Quarantine {
                    failure,
                    on_failure,
                } => {
                    row.quarantine(connection, (seq, self.epoch), failure, now)
                        .await?;
                    park_key(connection, &row, *on_failure).await?;
                }
            }
        }
        make_wait(connection, &waiting).await?;
        writer.commit().await?;
        writer.finish();
        Ok(true)
    }

    /// Those rows that are still there to be settled, with what the outcome needs of them.
    async fn present(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<HashMap<i64, Present>, Fault> {
        let rows = jsonb::integers(self.rows(|_| true));
        let needed = |outcome: &Outcome| !matches!(outcome, Outcome::Published | Outcome::Release);
        let needed = jsonb::integers(self.rows(needed));
        let rows = sqlx::query(
            "SELECT seq, attempts, history, ordering_key, first_failed_at, \
                iif(seq IN (SELECT value FROM json_each($2)), body, x'') \
             FROM outbox_messages \
             WHERE seq IN (SELECT value FROM json_each($1)) AND state = 0",
        )
        .bind(rows)
        .bind(needed)
        .fetch_all(connection)
        .await?;
        let mut present = HashMap::with_capacity(rows.len());
        for row in rows {
            let first_failed_at: Option<i64> = row.try_get(4)?;
            let history: Option<&str> = row.try_get(2)?;
            let found = Present {
                attempts: row.try_get(1)?,
                history: history.map(history_in).unwrap_or_default(),
                ordering_key: row.try_get(3)?,
                first_failed_at: first_failed_at.map(Timestamp::from_micros),
                body: row.try_get::<Vec<u8>, _>(5)?.into(),
            };
            present.insert(row.try_get(0)?, found);
        }
        Ok(present)
    }

    /// What is not there any more was settled before, or taken away by other hands.
    fn lose_missing(&mut self, present: &HashMap<i64, Present>) {
        let settlements = self.settlements;
        let is_present =
            |place: &usize| present.contains_key(&(settlements[*place].token.sequence.0 as i64));
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

    /// Notes the keys that these settlements free, where rows are parked behind them.
    async fn unpark_later(&self, connection: &mut SqliteConnection) -> Result<(), Fault> {
        if !self.parked {
            return Ok(());
        }
        let freeing = self.rows(|outcome| *outcome != Outcome::Release && !blocks(outcome));
        sqlx::query(
            "INSERT OR IGNORE INTO outbox_unparking (ordering_key) \
             SELECT DISTINCT ordering_key FROM outbox_messages AS m \
             WHERE seq IN (SELECT value FROM json_each($1)) AND ordering_key IS NOT NULL \
                AND EXISTS (SELECT 1 FROM outbox_messages AS p WHERE p.state IN (1, 2) \
                    AND p.ordering_key = m.ordering_key AND p.state = 2)",
        )
        .bind(jsonb::integers(freeing))
        .execute(connection)
        .await?;
        Ok(())
    }
}

async fn remove_published(
    connection: &mut SqliteConnection,
    rows: &[i64],
    keep: bool,
    now: Timestamp,
) -> Result<(), Fault> {
    let query = match keep {
        true => sqlx::query(
            "UPDATE outbox_messages SET state = 3, settled_at = $2 \
             WHERE seq IN (SELECT value FROM json_each($1))",
        ),
        false => sqlx::query(
            "DELETE FROM outbox_messages \
             WHERE seq IN (SELECT value FROM json_each($1)) AND $2 IS NOT NULL",
        ),
    };
    query
        .bind(jsonb::integers(rows.iter().copied()))
        .bind(now.as_micros())
        .execute(connection)
        .await?;
    Ok(())
}

/// A row that is to be settled.
struct Present {
    attempts: u32,
    history: Vec<AttemptRecord>,
    ordering_key: Option<String>,
    first_failed_at: Option<Timestamp>,
    body: Bytes,
}

/// What is written into a row that is to wait: number, due time, topic, whether its key goes on,
/// attempts to add, history, and the first failure.
type Wait = (i64, i64, String, bool, u32, Option<String>, Option<i64>);

impl Present {
    fn topic(&self) -> String {
        body::read(&self.body)
            .map(|message| message.topic)
            .unwrap_or_default()
    }

    fn held(&self, seq: i64, until: Timestamp) -> Wait {
        (seq, until.as_micros(), self.topic(), false, 0, None, None)
    }

    fn to_retry(
        &self,
        seq: i64,
        due_at: Timestamp,
        failure: &AttemptRecord,
        on_failure: OnFailure,
    ) -> Result<Wait, Fault> {
        let mut history = self.history.clone();
        failure.clone().push_to(&mut history);
        let first = self.first_failed_at.unwrap_or(failure.at);
        let skip = on_failure == OnFailure::SkipMessage;
        let history = quarantine::json(&history)?;
        let (due_at, first) = (due_at.as_micros(), first.as_micros());
        Ok((
            seq,
            due_at,
            self.topic(),
            skip,
            1,
            Some(history),
            Some(first),
        ))
    }

    async fn quarantine(
        &self,
        connection: &mut SqliteConnection,
        (seq, epoch): (i64, i64),
        failure: &AttemptRecord,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let message = body::read(&self.body);
        let mut history = self.history.clone();
        failure.clone().push_to(&mut history);
        let entry = Entry {
            message: message.as_ref().ok(),
            body: message.as_ref().err().map(|_| &self.body[..]),
            ordering_key: self.ordering_key.as_deref(),
            attempts: self.attempts.saturating_add(1),
            history: &history,
            first_failed_at: self.first_failed_at.unwrap_or(failure.at),
            last_failed_at: failure.at,
            kind: &failure.kind,
            error: &failure.error,
            ..Entry::of_outbox(seq, epoch, now)
        };
        quarantine::insert(connection, &entry).await?;
        sqlx::query("DELETE FROM outbox_messages WHERE seq = $1")
            .bind(seq)
            .execute(connection)
            .await?;
        Ok(())
    }
}

async fn park_key(
    connection: &mut SqliteConnection,
    row: &Present,
    on_failure: OnFailure,
) -> Result<(), Fault> {
    let (Some(key), OnFailure::ParkKey) = (&row.ordering_key, on_failure) else {
        return Ok(());
    };
    sqlx::query("INSERT OR IGNORE INTO outbox_parked_keys (ordering_key) VALUES ($1)")
        .bind(key)
        .execute(connection)
        .await?;
    Ok(())
}

async fn make_wait(connection: &mut SqliteConnection, rows: &[Wait]) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE outbox_messages SET state = 1, due_at = row.value ->> 1, \
            topic = row.value ->> 2, skip = row.value ->> 3, \
            attempts = attempts + (row.value ->> 4), \
            history = ifnull(row.value ->> 5, history), \
            first_failed_at = ifnull(row.value ->> 6, first_failed_at) \
         FROM json_each($1) AS row WHERE seq = (row.value ->> 0)",
    )
    .bind(quarantine::json(rows)?)
    .execute(connection)
    .await?;
    Ok(())
}
