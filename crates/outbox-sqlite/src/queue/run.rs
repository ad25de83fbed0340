use outbox_core::id::WorkerId;
use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::port::Inner;
use crate::error::Fault;

/// About the most bytes of bodies that are handed out at once, where it is more than one entry: a
/// batch of great payloads is cut short rather than fill the memory.
pub(super) const MOST_BYTES: i64 = 8 << 20;

/// The first entries in a span of places; their number, the last of them, and their bytes.
pub(super) const MEASURE: &str = "\
    SELECT count(*), max(place), coalesce(sum(bytes), 0) FROM ( \
        SELECT place, length(body) AS bytes FROM outbox_entries \
        WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT +?3)";

/// As above, as far as the entries before each do not reach the given number of bytes.
pub(super) const MEASURE_BYTES: &str = "\
    SELECT count(*), max(place), coalesce(sum(bytes), 0) FROM ( \
        SELECT place, bytes, sum(bytes) OVER (ORDER BY place) - bytes AS before FROM ( \
            SELECT place, length(body) AS bytes FROM outbox_entries \
            WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT +?3)) \
    WHERE before < ?4";

pub(super) const CLAIM: &str = "\
    INSERT INTO outbox_claims (queue, token, low, high, owner, expires_at, takeovers) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

pub(super) const TAKE_RETURNED: &str = "\
    UPDATE outbox_returned SET token = ?2, owner = ?3, due_at = ?4 WHERE place IN ( \
        SELECT place FROM ( \
            SELECT place, sum(bytes) OVER (ORDER BY due_at, place) - bytes AS before FROM ( \
                SELECT place, due_at, length(body) AS bytes FROM outbox_returned \
                WHERE queue = ?1 AND token = 0 AND due_at <= ?5 ORDER BY due_at, place LIMIT +?6)) \
        WHERE before < ?7)";

pub(super) const TAKE_OVER_RETURNED: &str = "\
    UPDATE outbox_returned SET token = ?2, owner = ?3, due_at = ?4, \
        takeovers = takeovers + 1 WHERE place IN ( \
        SELECT place FROM ( \
            SELECT place, sum(bytes) OVER (ORDER BY due_at, place) - bytes AS before FROM ( \
                SELECT place, due_at, length(body) AS bytes FROM outbox_returned \
                WHERE queue = ?1 AND token > 0 AND due_at <= ?5 ORDER BY due_at, place LIMIT +?6)) \
        WHERE before < ?7)";

/// To whom entries are handed out, until when, and under which number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub(super) owner: WorkerId,
    pub(super) until: Timestamp,
    pub(super) token: i64,
}

/// A run of places, both ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) low: i64,
    pub(super) high: i64,
}

impl Run {
    /// A run without any place in it.
    pub(super) const NONE: Self = Self { low: 1, high: 0 };
}

/// What one call hands out.
#[derive(Debug)]
pub(super) struct HandedOut {
    pub(super) holder: Holder,
    /// Entries that were never given back, each run with how often it was taken over.
    pub(super) runs: Vec<(Run, u32)>,
    /// How many of those that were.
    pub(super) returned: usize,
}

impl HandedOut {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.returned == 0
    }
}

/// Entries that were given back and may be taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Returned {
    /// Those that are due.
    Due,
    /// Those whose lease has ended.
    Stuck,
}

/// The first entries of a run, as many as may be handed out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) count: usize,
    /// The last of them; `None` where there are none.
    pub(super) high: Option<i64>,
    bytes: i64,
}

/// The first entries of `run`: no more than `max`, and no more bytes than a batch may have.
pub(super) async fn measure(
    connection: &mut SqliteConnection,
    run: Run,
    max: usize,
) -> Result<Measured, Fault> {
    let all = ask(connection, MEASURE, run, max).await?;
    if all.bytes <= MOST_BYTES {
        return Ok(all);
    }
    ask(connection, MEASURE_BYTES, run, max).await
}

async fn ask(
    connection: &mut SqliteConnection,
    sql: &'static str,
    run: Run,
    max: usize,
) -> Result<Measured, Fault> {
    let row = sqlx::query(sql)
        .bind(run.low)
        .bind(run.high)
        .bind(limit(max))
        .bind(MOST_BYTES)
        .fetch_one(connection)
        .await?;
    let count: i64 = row.try_get(0)?;
    Ok(Measured {
        count: usize::try_from(count).unwrap_or(0),
        high: row.try_get(1)?,
        bytes: row.try_get(2)?,
    })
}

/// A count as SQL takes it.
pub(super) fn limit(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX)
}

impl Inner {
    /// Records that `run`, taken over so many times, is `holder`'s.
    pub(super) async fn claim(
        &self,
        connection: &mut SqliteConnection,
        (run, takeovers): (Run, u32),
        holder: Holder,
    ) -> Result<(), Fault> {
        sqlx::query(CLAIM)
            .bind(self.queue)
            .bind(holder.token)
            .bind(run.low)
            .bind(run.high)
            .bind(&holder.owner.as_bytes()[..])
            .bind(holder.until.as_micros())
            .bind(takeovers)
            .execute(connection)
            .await?;
        Ok(())
    }

    /// Gives `holder` up to `max` entries that were given back; how many.
    pub(super) async fn take_returned(
        &self,
        connection: &mut SqliteConnection,
        which: Returned,
        (holder, now): (Holder, Timestamp),
        max: usize,
    ) -> Result<usize, Fault> {
        let sql = match which {
            Returned::Due => TAKE_RETURNED,
            Returned::Stuck => TAKE_OVER_RETURNED,
        };
        let done = sqlx::query(sql)
            .bind(self.queue)
            .bind(holder.token)
            .bind(&holder.owner.as_bytes()[..])
            .bind(holder.until.as_micros())
            .bind(now.as_micros())
            .bind(limit(max))
            .bind(MOST_BYTES)
            .execute(connection)
            .await?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }
}
