use std::collections::{BTreeSet, HashMap, HashSet};

use outbox_core::lease::Receipt;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::port::Inner;
use super::run::Run;
use crate::codec::jsonb;
use crate::error::Fault;

pub(super) const OPEN: &str = "\
    BEGIN IMMEDIATE; \
    SELECT token, low, high, expires_at, owner, takeovers FROM outbox_claims \
    WHERE queue = $1 AND token IN (SELECT value FROM json_each($2)) ORDER BY token, low";

pub(super) const RETURNED: &str = "\
    SELECT place, token, owner FROM outbox_returned \
    WHERE place IN (SELECT value FROM json_each(?1)) AND token > 0";

pub(super) const PRESENT: &str =
    "SELECT place FROM outbox_entries WHERE place IN (SELECT value FROM json_each(?1))";

/// A run of entries that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claimed {
    pub(super) token: i64,
    pub(super) run: Run,
    pub(super) expires_at: i64,
    owner: Vec<u8>,
    takeovers: u32,
}

/// Where a held entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// In a claimed run that was taken over so many times; it was never given back.
    Fresh(i64, u32),
    /// In a row of its own.
    Returned(i64),
}

/// How much is taken on trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// That an entry within a held run is still there: quick, and true unless it was settled
    /// before.
    Run,
    /// Nothing.
    Row,
}

/// What stands behind some receipts.
#[derive(Debug)]
pub(super) struct Holding {
    /// The claimed runs that the receipts' tokens name, by token and place.
    pub(super) claims: Vec<Claimed>,
    /// What each receipt holds; `None` where it is lost.
    pub(super) held: Vec<Option<Held>>,
}

impl Inner {
    /// Begins a transaction, and finds out what each of `receipts` still holds.
    pub(super) async fn begin_holding(
        &self,
        connection: &mut SqliteConnection,
        receipts: &[Receipt],
        proof: Proof,
    ) -> Result<Holding, Fault> {
        let claims = self.begin_with_claims(connection, receipts).await?;
        let in_a_run = |receipt: &Receipt| {
            let place = self.span.place(receipt.entry)?;
            let claim = covering(&claims, receipt, place)?;
            Some(Held::Fresh(place, claim.takeovers))
        };
        let mut held: Vec<_> = receipts.iter().map(in_a_run).collect();
        if proof == Proof::Row {
            strike_absent(connection, &mut held).await?;
        }
        if held.contains(&None) {
            self.find_returned(connection, receipts, &mut held).await?;
        }
        Ok(Holding { claims, held })
    }

    /// Begins a transaction; answers the claims that the receipts name.
    async fn begin_with_claims(
        &self,
        connection: &mut SqliteConnection,
        receipts: &[Receipt],
    ) -> Result<Vec<Claimed>, Fault> {
        let tokens: BTreeSet<_> = receipts.iter().filter_map(token).collect();
        let rows = sqlx::query(OPEN)
            .bind(self.queue)
            .bind(jsonb::integers(tokens))
            .fetch_all(connection)
            .await?;
        rows.iter().map(claimed).collect()
    }

    /// Looks for what is in no claimed run among the entries that stand for themselves.
    async fn find_returned(
        &self,
        connection: &mut SqliteConnection,
        receipts: &[Receipt],
        held: &mut [Option<Held>],
    ) -> Result<(), Fault> {
        let missing = receipts.iter().zip(held.iter());
        let missing = missing.filter(|(_, held)| held.is_none());
        let places = missing.filter_map(|(receipt, _)| self.span.place(receipt.entry));
        let rows = sqlx::query(RETURNED)
            .bind(jsonb::integers(places))
            .fetch_all(connection)
            .await?;
        let mut returned = HashMap::with_capacity(rows.len());
        for row in &rows {
            let holder: (i64, Vec<u8>) = (row.try_get(1)?, row.try_get(2)?);
            returned.insert(row.try_get::<i64, _>(0)?, holder);
        }
        for (receipt, held) in receipts.iter().zip(held) {
            let place = self.span.place(receipt.entry);
            let holder = place.and_then(|place| Some((place, returned.get(&place)?)));
            if let Some((place, (held_by, owner))) = holder
                && token(receipt) == Some(*held_by)
                && receipt.owner.as_bytes()[..] == owner[..]
            {
                *held = Some(Held::Returned(place));
            }
        }
        Ok(())
    }
}

fn token(receipt: &Receipt) -> Option<i64> {
    i64::try_from(receipt.token).ok()
}

fn claimed(row: &SqliteRow) -> Result<Claimed, Fault> {
    Ok(Claimed {
        token: row.try_get(0)?,
        run: Run {
            low: row.try_get(1)?,
            high: row.try_get(2)?,
        },
        expires_at: row.try_get(3)?,
        owner: row.try_get(4)?,
        takeovers: row.try_get(5)?,
    })
}

/// The one of `claims`, which are in order, that gives `place` to the receipt's owner.
fn covering<'a>(claims: &'a [Claimed], receipt: &Receipt, place: i64) -> Option<&'a Claimed> {
    let token = token(receipt)?;
    let after = claims.partition_point(|claim| (claim.token, claim.run.low) <= (token, place));
    let claim = after.checked_sub(1).and_then(|last| claims.get(last));
    claim.filter(|claim| {
        claim.token == token
            && place <= claim.run.high
            && claim.owner[..] == receipt.owner.as_bytes()[..]
    })
}

/// Strikes those entries of claimed runs that are not there any more.
async fn strike_absent(
    connection: &mut SqliteConnection,
    held: &mut [Option<Held>],
) -> Result<(), Fault> {
    let places = held.iter().filter_map(|held| match held {
        Some(Held::Fresh(place, _)) => Some(*place),
        _ => None,
    });
    let present: Vec<i64> = sqlx::query_scalar(PRESENT)
        .bind(jsonb::integers(places))
        .fetch_all(connection)
        .await?;
    let present: HashSet<i64> = present.into_iter().collect();
    for slot in held {
        if let Some(Held::Fresh(place, _)) = slot
            && !present.contains(place)
        {
            *slot = None;
        }
    }
    Ok(())
}
