//! One look at everything that decides what a claim has to do, at the cost of one small query.

use outbox_core::id::WorkerId;
use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use crate::error::Fault;

/// The lease, and what there is to do.
#[derive(Debug)]
pub(super) struct Pulse {
    pub(super) owner: Option<WorkerId>,
    pub(super) epoch: i64,
    pub(super) expires_at: Timestamp,
    /// Rows behind the ones that were met are ready.
    pub(super) fresh: bool,
    /// Rows wait for their due time, or for their topic.
    pub(super) waiting: bool,
    /// Keys are to be unparked.
    pub(super) unparking: bool,
    /// Keyed rows are waiting or parked, so that others of their keys may be blocked.
    pub(super) blocking: bool,
}

impl Pulse {
    /// Whether there are no rows but ready ones, and nothing blocks any of them.
    pub(super) fn is_calm(&self) -> bool {
        !(self.waiting || self.unparking || self.blocking)
    }
}

/// The pulse, as a literal; $1 is the last row that was met.
macro_rules! pulse {
    () => {
        "SELECT owner, epoch, expires_at, \
            EXISTS (SELECT 1 FROM outbox_messages WHERE state = 0 AND seq > $1), \
            EXISTS (SELECT 1 FROM outbox_messages WHERE state IN (1, 4)), \
            EXISTS (SELECT 1 FROM outbox_unparking), \
            EXISTS (SELECT 1 FROM outbox_messages WHERE state IN (1, 2) AND ordering_key IS NOT NULL) \
                OR EXISTS (SELECT 1 FROM outbox_parked_keys) \
            FROM outbox_lease WHERE id = 1"
    };
}
pub(super) use pulse;

const PULSE: &str = pulse!();

/// Looks; rows up to `high` count as met.
pub(super) async fn feel(connection: &mut SqliteConnection, high: i64) -> Result<Pulse, Fault> {
    let row = sqlx::query(PULSE).bind(high).fetch_one(connection).await?;
    in_row(&row)
}

/// The pulse that a row tells.
pub(super) fn in_row(row: &SqliteRow) -> Result<Pulse, Fault> {
    let owner: Option<&[u8]> = row.try_get(0)?;
    Ok(Pulse {
        owner: owner
            .and_then(|bytes| bytes.try_into().ok())
            .map(WorkerId::from_bytes),
        epoch: row.try_get(1)?,
        expires_at: Timestamp::from_micros(row.try_get(2)?),
        fresh: row.try_get(3)?,
        waiting: row.try_get(4)?,
        unparking: row.try_get(5)?,
        blocking: row.try_get(6)?,
    })
}

/// The topics that have waiting rows, each with its earliest due time: one step down the index a
/// topic, however many rows wait.
pub(super) const TOPICS: &str = "WITH RECURSIVE topics (topic) AS ( \
        SELECT min(topic) FROM outbox_messages WHERE state IN (1, 4) \
        UNION ALL \
        SELECT (SELECT min(topic) FROM outbox_messages WHERE state IN (1, 4) AND topic > topics.topic) \
        FROM topics WHERE topic IS NOT NULL) \
    SELECT topic, (SELECT min(due_at) FROM outbox_messages \
        WHERE state IN (1, 4) AND topic = topics.topic) \
    FROM topics WHERE topic IS NOT NULL";

/// What of the waiting rows is due, and when more will be.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    /// Topics with rows that are due.
    pub(super) due: Vec<String>,
    /// The earliest due time to come.
    pub(super) next_due: Option<Timestamp>,
}

/// What of the waiting rows is due at `now`, in topics that are not paused.
pub(super) async fn outlook(
    connection: &mut SqliteConnection,
    paused: &[String],
    now: Timestamp,
) -> Result<Outlook, Fault> {
    let mut outlook = Outlook::default();
    for row in sqlx::query(TOPICS).fetch_all(connection).await? {
        let topic: String = row.try_get(0)?;
        if paused.contains(&topic) {
            continue;
        }
        let due_at = Timestamp::from_micros(row.try_get(1)?);
        if due_at <= now {
            outlook.due.push(topic);
        } else {
            outlook.next_due = earlier(outlook.next_due, due_at);
        }
    }
    Ok(outlook)
}

fn earlier(known: Option<Timestamp>, other: Timestamp) -> Option<Timestamp> {
    Some(known.map_or(other, |known| known.min(other)))
}
