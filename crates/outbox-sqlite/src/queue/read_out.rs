use bytes::Bytes;
use outbox_core::delivery::Delivery;
use outbox_core::lease::Receipt;
use outbox_core::ports::DequeueReport;
use outbox_core::status::AttemptRecord;
use outbox_core::time::Timestamp;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::port::Inner;
use super::run::{HandedOut, Holder, Run};
use crate::error::Fault;
use outbox_core::packed::Damage;
use outbox_core::packed::frame;

/// A whole run in one row: reading a row costs more than reading what is in it.
pub(super) const READ_RUN: &str = "\
    SELECT group_concat(place), group_concat(enqueued_at), group_concat(body, '') FROM ( \
        SELECT place, enqueued_at, body FROM outbox_entries \
        WHERE place BETWEEN ?1 AND ?2 ORDER BY place)";

/// The same entry by entry, for a run in which one is damaged.
pub(super) const READ_EACH: &str = "\
    SELECT place, enqueued_at, body FROM outbox_entries \
    WHERE place BETWEEN ?1 AND ?2 ORDER BY place";

pub(super) const READ_RETURNED: &str = "\
    SELECT place, enqueued_at, body, attempts, history, takeovers FROM outbox_returned \
    WHERE queue = ?1 AND token = ?2 AND token > 0 AND due_at = ?3 ORDER BY place";

/// An entry as it lies in the database.
struct Stored {
    place: i64,
    enqueued_at: i64,
    frame: Bytes,
    attempts: u32,
    takeovers: u32,
    history: Option<String>,
}

/// An entry that cannot be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unread {
    pub(super) place: i64,
    pub(super) problem: Damage,
}

impl Inner {
    /// Reads the entries that were handed out; those that cannot be read go to quarantine.
    pub(super) async fn read_out(
        &self,
        handed_out: &HandedOut,
        now: Timestamp,
    ) -> Result<DequeueReport, Fault> {
        let mut stored = self.read_stored(handed_out).await?;
        stored.sort_unstable_by_key(|entry| entry.place);
        let (mut report, mut unread) = (DequeueReport::default(), Vec::new());
        report.deliveries.reserve_exact(stored.len());
        for entry in stored {
            match self.delivery(&entry, handed_out.holder) {
                Ok(delivery) => report.deliveries.push(delivery),
                Err(problem) => unread.push(Unread {
                    place: entry.place,
                    problem,
                }),
            }
        }
        if !unread.is_empty() {
            report.unreadable = self.set_aside(&unread, handed_out.holder, now).await?;
        }
        Ok(report)
    }

    async fn read_stored(&self, handed_out: &HandedOut) -> Result<Vec<Stored>, Fault> {
        let mut reader = self.store.reader().await?;
        let connection = reader.connection();
        let mut stored = Vec::new();
        if handed_out.returned > 0 {
            let rows = sqlx::query(READ_RETURNED)
                .bind(self.queue)
                .bind(handed_out.holder.token)
                .bind(handed_out.holder.until.as_micros())
                .fetch_all(&mut *connection)
                .await?;
            for row in &rows {
                stored.push(Stored {
                    attempts: row.try_get(3)?,
                    history: row.try_get(4)?,
                    takeovers: row.try_get(5)?,
                    ..entry(row)?
                });
            }
        }
        for (run, takeovers) in &handed_out.runs {
            let entries = read_run(connection, *run).await?.into_iter();
            let taken_over = |entry| Stored {
                takeovers: *takeovers,
                ..entry
            };
            stored.extend(entries.map(taken_over));
        }
        reader.finish();
        Ok(stored)
    }

    fn delivery(&self, entry: &Stored, holder: Holder) -> Result<Delivery, Damage> {
        Ok(Delivery {
            message: frame::read(&entry.frame)?.into(),
            receipt: Receipt {
                entry: self.span.entry(entry.place),
                owner: holder.owner,
                token: holder.token.unsigned_abs(),
            },
            attempt: entry.attempts.saturating_add(1),
            takeovers: entry.takeovers,
            last_failure: last_failure(entry.history.as_deref())?.map(Box::new),
            enqueued_at: Timestamp::from_micros(entry.enqueued_at),
        })
    }
}

fn entry(row: &SqliteRow) -> Result<Stored, Fault> {
    Ok(Stored {
        place: row.try_get(0)?,
        enqueued_at: row.try_get(1)?,
        frame: Bytes::from(row.try_get::<Vec<u8>, _>(2)?),
        attempts: 0,
        takeovers: 0,
        history: None,
    })
}

fn last_failure(history: Option<&str>) -> Result<Option<AttemptRecord>, Damage> {
    let Some(history) = history else {
        return Ok(None);
    };
    let mut history: Vec<AttemptRecord> =
        serde_json::from_str(history).map_err(|_| Damage::Value("history"))?;
    Ok(history.pop())
}

async fn read_run(connection: &mut SqliteConnection, run: Run) -> Result<Vec<Stored>, Fault> {
    let row = sqlx::query(READ_RUN)
        .bind(run.low)
        .bind(run.high)
        .fetch_one(&mut *connection)
        .await?;
    if let Some(places) = row.try_get::<Option<&str>, _>(0)? {
        let frames = Bytes::from(row.try_get::<Vec<u8>, _>(2)?);
        if let Some(stored) = split(places, row.try_get(1)?, frames) {
            return Ok(stored);
        }
    }
    let rows = sqlx::query(READ_EACH)
        .bind(run.low)
        .bind(run.high)
        .fetch_all(connection)
        .await?;
    rows.iter().map(entry).collect()
}

/// The entries of a run that was read in one row; `None` where their frames do not add up.
fn split(places: &str, enqueued_at: &str, mut frames: Bytes) -> Option<Vec<Stored>> {
    let mut stored = Vec::with_capacity(places.len() / 8);
    for (place, enqueued_at) in places.split(',').zip(enqueued_at.split(',')) {
        stored.push(Stored {
            place: place.parse().ok()?,
            enqueued_at: enqueued_at.parse().ok()?,
            frame: frame::split_first(&mut frames).ok()?,
            attempts: 0,
            takeovers: 0,
            history: None,
        });
    }
    frames.is_empty().then_some(stored)
}
