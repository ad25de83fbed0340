//! Finds the dead letters that are meant, a bounded number of rows and bytes at a time.

use outbox_core::error::OutboxError;
use outbox_dlq::{Filter, LetterId, Listing, Page, RedriveCursor};
use sqlx::sqlite::{Sqlite, SqliteConnection};
use sqlx::{QueryBuilder, Row};

use super::letter::{self, COLUMNS, Stored, origin};
use crate::codec::jsonb;
use crate::error::Fault;

/// About the most bytes of payloads that are read at once; a single larger one is read all the same.
const BYTES: i64 = 8 << 20;

/// The beginning of a statement about those that `filter` means.
pub(super) fn meant(start: &str, filter: &Filter) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(start);
    query.push(" WHERE true");
    if !filter.ids.is_empty() {
        let ids = filter.ids.iter().map(|id| id.0.cast_signed());
        query.push(" AND entry IN (SELECT value FROM json_each(");
        query.push_bind(jsonb::integers(ids)).push("))");
    }
    if let Some(last) = filter.up_to {
        query.push(" AND entry <= ").push_bind(bounded(last.0));
    }
    let texts = [
        ("origin", filter.origin.as_ref().map(ToString::to_string)),
        ("topic", filter.topic.clone()),
        ("kind", filter.kind.clone()),
        ("error_kind", filter.error_kind.clone()),
        (
            "fingerprint",
            filter.fingerprint.map(|print| print.to_string()),
        ),
    ];
    for (column, wanted) in texts {
        if let Some(wanted) = wanted {
            query
                .push(" AND ")
                .push(column)
                .push(" = ")
                .push_bind(wanted);
        }
    }
    if let Some(since) = filter.since {
        query
            .push(" AND quarantined_at >= ")
            .push_bind(since.as_micros());
    }
    if let Some(before) = filter.before {
        query
            .push(" AND quarantined_at < ")
            .push_bind(before.as_micros());
    }
    query
}

/// Refuses a filter with too many ids.
pub(super) fn check(filter: &Filter) -> Result<(), OutboxError> {
    if filter.ids.len() <= Filter::MOST_IDS {
        return Ok(());
    }
    Err(OutboxError::Limit {
        what: "ids in a filter".to_owned(),
        actual: filter.ids.len() as u64,
        limit: Filter::MOST_IDS as u64,
    })
}

/// Rows that were found, and whether there are more behind them.
#[derive(Debug)]
pub(super) struct Found<K> {
    pub(super) rows: Vec<K>,
    pub(super) more: bool,
}

/// Cuts what was found, one more row than was asked for, to its bounds.
fn cut<K>(found: Vec<(K, i64)>, max: usize) -> Found<K> {
    let (count, mut bytes) = (found.len(), 0);
    let fits = |(place, (_, size)): &(usize, (K, i64))| {
        let fits = *place == 0 || (*place < max && bytes + size <= BYTES);
        bytes += size;
        fits
    };
    let rows: Vec<K> = found
        .into_iter()
        .enumerate()
        .take_while(fits)
        .map(|(_, (row, _))| row)
        .collect();
    Found {
        more: rows.len() < count,
        rows,
    }
}

const SIZE: &str = "ifnull(length(payload), 0) + ifnull(length(body), 0)";

/// A page of `filter`, in the order of entries.
pub(super) async fn page(
    connection: &mut SqliteConnection,
    filter: &Filter,
    page: Page,
) -> Result<Listing, Fault> {
    let start = format!("SELECT entry, {SIZE} FROM outbox_quarantine");
    let mut query = meant(&start, filter);
    if let Some(after) = page.after {
        query.push(" AND entry > ").push_bind(after.0.cast_signed());
    }
    query
        .push(" ORDER BY entry LIMIT ")
        .push_bind(bound(page.max));
    let rows = query.build().fetch_all(&mut *connection).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        found.push((row.try_get::<i64, _>(0)?, row.try_get(1)?));
    }
    let found = cut(found, page.max);
    let stored = read(connection, &found.rows).await?;
    let letters: Vec<_> = stored.into_iter().map(|stored| stored.letter).collect();
    let last = found
        .rows
        .last()
        .map(|entry| LetterId(entry.unsigned_abs()));
    Ok(Listing {
        next: last.filter(|_| found.more),
        letters,
    })
}

/// A number as SQLite has them; the greatest where it is greater.
fn bounded(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The number of the newest.
pub(super) async fn last(connection: &mut SqliteConnection) -> Result<Option<LetterId>, Fault> {
    let row = sqlx::query("SELECT max(entry) FROM outbox_quarantine");
    let last: Option<i64> = row.fetch_one(connection).await?.try_get(0)?;
    Ok(last.map(|entry| LetterId(entry.unsigned_abs())))
}

/// One more than was asked for, to know whether there is more.
fn bound(max: usize) -> i64 {
    i64::try_from(max).unwrap_or(i64::MAX).saturating_add(1)
}

/// The next of `filter` behind `after`, in the order in which they stood in what they left.
pub(super) async fn in_order(
    connection: &mut SqliteConnection,
    filter: &Filter,
    after: Option<&RedriveCursor>,
    max: usize,
) -> Result<Found<RedriveCursor>, Fault> {
    // A few that are named are found by their numbers; all others are met in their order, so that a
    // step costs the same however many there are.
    let by = match filter.ids.is_empty() {
        true => "INDEXED BY outbox_quarantine_position",
        false => "NOT INDEXED",
    };
    let start =
        format!("SELECT origin, ifnull(place, seq), entry, {SIZE} FROM outbox_quarantine {by}");
    let mut query = meant(&start, filter);
    if let Some(after) = after {
        query.push(" AND (origin, ifnull(place, seq), entry) > (");
        query.push_bind(after.origin.to_string()).push(", ");
        query.push_bind(bounded(after.position)).push(", ");
        query.push_bind(bounded(after.id.0)).push(")");
    }
    query.push(" ORDER BY origin, ifnull(place, seq), entry LIMIT ");
    query.push_bind(bound(max));
    let rows = query.build().fetch_all(connection).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let cursor = RedriveCursor {
            origin: origin(row.try_get(0)?)?,
            position: row.try_get::<i64, _>(1)?.cast_unsigned(),
            id: LetterId(row.try_get::<i64, _>(2)?.unsigned_abs()),
        };
        found.push((cursor, row.try_get(3)?));
    }
    Ok(cut(found, max))
}

/// The letters with these numbers, in the order of the numbers.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    entries: &[i64],
) -> Result<Vec<Stored>, Fault> {
    let mut query = QueryBuilder::<Sqlite>::new("SELECT ");
    query.push(COLUMNS);
    query.push(" FROM outbox_quarantine WHERE entry IN (SELECT value FROM json_each(");
    query.push_bind(jsonb::integers(entries.iter().copied()));
    query.push(")) ORDER BY entry");
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(letter::read).collect()
}

/// Removes the letters with these numbers.
pub(super) async fn remove(
    connection: &mut SqliteConnection,
    entries: impl IntoIterator<Item = i64>,
) -> Result<(), Fault> {
    sqlx::query(REMOVE)
        .bind(jsonb::integers(entries))
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) const REMOVE: &str =
    "DELETE FROM outbox_quarantine WHERE entry IN (SELECT value FROM json_each(?1))";

#[cfg(test)]
mod tests {
    use sqlx::Connection;

    use super::*;
    use crate::plan::steps_taken;

    async fn bury(connection: &mut SqliteConnection, count: i64) {
        let bury = "INSERT INTO outbox_quarantine (origin, seq, epoch, attempts, first_failed_at, \
                last_failed_at, error_kind, error, quarantined_at) \
            SELECT 'outbox', key, 1, 1, 0, 0, 'failed', 'no', 0 FROM json_each($1)";
        let rows = jsonb::integers(0..count);
        let bury = sqlx::query(bury).bind(rows);
        bury.execute(connection).await.unwrap();
    }

    #[tokio::test]
    async fn a_page_reads_no_more_letters_than_it_has_room_for() {
        let mut connection = SqliteConnection::connect(":memory:").await.unwrap();
        let schema = sqlx::AssertSqlSafe(crate::schema_sql());
        let schema = sqlx::raw_sql(schema).execute(&mut connection);
        schema.await.unwrap();
        let mut taken = Vec::new();
        for more in [20, 20, 2_000] {
            bury(&mut connection, more).await;
            let look = async |connection: &mut SqliteConnection| {
                let listing = page(connection, &Filter::default(), Page::first(10)).await;
                assert_eq!(listing.unwrap().letters.len(), 10);
            };
            taken.push(steps_taken(&mut connection, look).await);
        }
        // The first one reads the schema, too.
        assert_eq!(taken[1], taken[2]);
    }

    #[test]
    fn a_bound_has_an_end() {
        for max in [usize::MAX, i64::MAX as usize] {
            assert_eq!(bound(max), i64::MAX);
        }
    }

    #[test]
    fn a_page_is_bounded_in_rows_and_in_bytes() {
        let rows = |sizes: &[i64], max| {
            let rows = sizes.iter().enumerate().map(|(n, size)| (n, *size));
            let found = cut(rows.collect(), max);
            (found.rows.len(), found.more)
        };
        assert_eq!(rows(&[], 2), (0, false));
        assert_eq!(rows(&[1, 1], 2), (2, false));
        assert_eq!(rows(&[1, 1, 1], 2), (2, true));
        assert_eq!(rows(&[BYTES * 2, 1], 2), (1, true));
        assert_eq!(rows(&[BYTES / 2, BYTES / 2, 1], 9), (2, true));
    }
}
