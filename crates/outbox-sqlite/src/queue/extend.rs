use std::collections::HashSet;

use outbox_core::lease::Receipt;
use outbox_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::holding::{Claimed, Held, Proof};
use super::port::Inner;
use super::run::Run;
use crate::codec::jsonb;
use crate::error::Fault;

pub(super) const EXTEND: &str = "\
    UPDATE outbox_claims SET expires_at = ?4 WHERE queue = ?1 AND token = ?2 AND low = ?3";

pub(super) const EXTEND_RETURNED: &str = "\
    UPDATE outbox_returned SET due_at = ?1 WHERE place IN (SELECT value FROM json_each(?2))";

pub(super) const ENTRIES: &str =
    "SELECT place FROM outbox_entries WHERE place BETWEEN ?1 AND ?2 ORDER BY place";

/// Narrows a claim to a part of its run.
pub(super) const NARROW: &str = "\
    UPDATE outbox_claims SET low = ?4, high = ?5, expires_at = ?6 \
    WHERE queue = ?1 AND token = ?2 AND low = ?3";

/// Adds another part of a run that was claimed as a whole.
pub(super) const ADD_PART: &str = "\
    INSERT INTO outbox_claims (queue, token, low, high, owner, expires_at, takeovers) \
    SELECT queue, token, ?4, ?5, owner, ?6, takeovers FROM outbox_claims \
    WHERE queue = ?1 AND token = ?2 AND low = ?3";

/// A part of a claimed run, and when its lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    run: Run,
    expires_at: i64,
}

impl Inner {
    /// Lets the leases behind `receipts` end at `until`; those receipts that are lost.
    pub(super) async fn extend(
        &self,
        receipts: &[Receipt],
        until: Timestamp,
    ) -> Result<Vec<Receipt>, Fault> {
        if receipts.is_empty() {
            return Ok(Vec::new());
        }
        let mut writer = self.store.swift_writer().await?;
        let connection = writer.connection();
        let holding = self.begin_holding(connection, receipts, Proof::Row).await?;
        let held = holding.held.iter().flatten();
        let (mut fresh, mut returned) = (HashSet::new(), Vec::new());
        for held in held {
            match held {
                Held::Fresh(place, _) => drop(fresh.insert(*place)),
                Held::Returned(place) => returned.push(*place),
            }
        }
        for claim in &holding.claims {
            self.extend_claim(connection, claim, &fresh, until).await?;
        }
        extend_returned(connection, returned, until).await?;
        writer.commit().await?;
        writer.finish();
        let lost = receipts.iter().zip(&holding.held);
        let lost = lost.filter(|(_, held)| held.is_none());
        Ok(lost.map(|(receipt, _)| *receipt).collect())
    }

    /// Extends as much of `claim` as lies at `places`; the rest of it ends when it would have.
    async fn extend_claim(
        &self,
        connection: &mut SqliteConnection,
        claim: &Claimed,
        places: &HashSet<i64>,
        until: Timestamp,
    ) -> Result<(), Fault> {
        let entries: Vec<i64> = sqlx::query_scalar(ENTRIES)
            .bind(claim.run.low)
            .bind(claim.run.high)
            .fetch_all(&mut *connection)
            .await?;
        let until = until.as_micros();
        if entries.iter().all(|place| places.contains(place)) {
            let extend = self.name_claim(EXTEND, claim).bind(until);
            extend.execute(connection).await?;
            return Ok(());
        }
        let parts = divide(&entries, claim.expires_at, |place| {
            places.contains(&place).then_some(until)
        });
        if parts.len() < 2 {
            return Ok(());
        }
        for (index, part) in parts.iter().enumerate().rev() {
            // The first part comes last: until then, the claim is what the others are copied from.
            let sql = if index == 0 { NARROW } else { ADD_PART };
            let write = self.name_claim(sql, claim);
            let write = write.bind(part.run.low).bind(part.run.high);
            write
                .bind(part.expires_at)
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }

    /// `sql` with the name of `claim` in its first three places.
    fn name_claim(
        &self,
        sql: &'static str,
        claim: &Claimed,
    ) -> sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments> {
        sqlx::query(sql)
            .bind(self.queue)
            .bind(claim.token)
            .bind(claim.run.low)
    }
}

async fn extend_returned(
    connection: &mut SqliteConnection,
    places: Vec<i64>,
    until: Timestamp,
) -> Result<(), Fault> {
    if places.is_empty() {
        return Ok(());
    }
    sqlx::query(EXTEND_RETURNED)
        .bind(until.as_micros())
        .bind(jsonb::integers(places))
        .execute(connection)
        .await?;
    Ok(())
}

/// Cuts a run into parts whose leases end together: at the moment that `extended` gives, or else at
/// `expires_at`.
fn divide(entries: &[i64], expires_at: i64, extended: impl Fn(i64) -> Option<i64>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for place in entries {
        let expires_at = extended(*place).unwrap_or(expires_at);
        match parts
            .last_mut()
            .filter(|part| part.expires_at == expires_at)
        {
            Some(part) => part.run.high = *place,
            None => parts.push(Part {
                run: Run {
                    low: *place,
                    high: *place,
                },
                expires_at,
            }),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_cut_where_its_lease_changes() {
        let extended = |place| [3, 4, 9].contains(&place).then_some(50);
        let parts = divide(&[1, 3, 4, 6, 8, 9], 10, extended);
        let plain: Vec<_> = parts
            .iter()
            .map(|part| (part.run.low, part.run.high, part.expires_at))
            .collect();
        assert_eq!(plain, [(1, 1, 10), (3, 4, 50), (6, 8, 10), (9, 9, 50)]);
        assert!(divide(&[], 10, extended).is_empty());
    }
}
