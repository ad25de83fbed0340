use outbox_core::error::OutboxError;
use outbox_core::time::Timestamp;
use outbox_dlq::{CountRequest, Counts, Filter, Group};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::letter::origin;
use super::pick::meant;
use crate::error::Fault;

const TOTAL: &str = "SELECT count(*), ifnull(sum(id IS NULL), 0), ifnull(sum(redrives > 0), 0), \
    min(quarantined_at) FROM outbox_quarantine";

const GROUPS: &str = "SELECT fingerprint, count(*), max(redrives), error_kind, kind, error, \
    min(quarantined_at), max(quarantined_at) FROM outbox_quarantine";

/// Counts those that are meant.
pub(super) async fn count(
    connection: &mut SqliteConnection,
    request: &CountRequest,
) -> Result<Counts, Fault> {
    let filter = &request.filter;
    let row = meant(TOTAL, filter)
        .build()
        .fetch_one(&mut *connection)
        .await?;
    let origins = tally(connection, filter, "origin", usize::MAX).await?;
    let origins = origins
        .into_iter()
        .map(|(text, letters)| Ok((origin(&text)?, letters)));
    let oldest: Option<i64> = row.try_get(3)?;
    Ok(Counts {
        total: number(&row, 0)?,
        unreadable: number(&row, 1)?,
        came_back: number(&row, 2)?,
        oldest: oldest.map(Timestamp::from_micros),
        origins: origins.collect::<Result<_, Fault>>()?,
        topics: tally(connection, filter, "topic", request.max).await?,
        kinds: tally(connection, filter, "kind", request.max).await?,
        groups: groups(connection, request).await?,
    })
}

/// How often each value of `column` occurs, the greatest first.
async fn tally(
    connection: &mut SqliteConnection,
    filter: &Filter,
    column: &'static str,
    max: usize,
) -> Result<Vec<(String, u64)>, Fault> {
    let start = format!("SELECT {column}, count(*) FROM outbox_quarantine");
    let mut query = meant(&start, filter);
    query.push(format!(
        " AND {column} IS NOT NULL GROUP BY {column} ORDER BY 2 DESC, 1 LIMIT "
    ));
    query.push_bind(i64::try_from(max).unwrap_or(i64::MAX));
    let rows = query.build().fetch_all(connection).await?;
    let counts = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, number(row, 1)?)));
    counts.collect()
}

async fn groups(
    connection: &mut SqliteConnection,
    request: &CountRequest,
) -> Result<Vec<Group>, Fault> {
    let mut query = meant(GROUPS, &request.filter);
    query.push(" GROUP BY fingerprint ORDER BY 2 DESC, 1 LIMIT ");
    query.push_bind(i64::try_from(request.max).unwrap_or(i64::MAX));
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(group).collect()
}

fn group(row: &SqliteRow) -> Result<Group, Fault> {
    let stored: Option<&str> = row.try_get(0)?;
    let fingerprint = stored.unwrap_or_default().parse();
    let wrong = |error| Fault::Told(OutboxError::codec("a stored fingerprint", error));
    let moment = |column| Ok::<_, Fault>(Timestamp::from_micros(row.try_get(column)?));
    Ok(Group {
        fingerprint: fingerprint.map_err(wrong)?,
        letters: number(row, 1)?,
        redrives: row.try_get(2)?,
        error_kind: row.try_get(3)?,
        kind: row.try_get(4)?,
        error: row.try_get(5)?,
        first: moment(6)?,
        last: moment(7)?,
    })
}

fn number(row: &SqliteRow, column: usize) -> Result<u64, Fault> {
    Ok(row.try_get::<i64, _>(column)?.unsigned_abs())
}
