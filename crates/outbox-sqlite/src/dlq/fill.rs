//! Writes down the fingerprints that nobody has asked for yet: whoever quarantines has better things to
//! do.

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::letter::fingerprint;
use crate::connect::Role;
use crate::error::Fault;
use crate::quarantine::json;
use crate::store::SqliteStore;

/// How many are written in one transaction.
const CHUNK: i64 = 500;

pub(super) const UNKNOWN: &str = "\
    SELECT entry, kind, kind_version, error_kind, error, fingerprint FROM outbox_quarantine \
    WHERE fingerprint IS NULL ORDER BY entry LIMIT +?1";

// The sign keeps SQLite from going through all letters without a fingerprint for each that is filled.
pub(super) const FILL: &str = "\
    UPDATE outbox_quarantine SET fingerprint = row.value ->> 1 FROM json_each(?1) AS row \
    WHERE entry = (row.value ->> 0) AND +fingerprint IS NULL";

/// Makes sure that every letter has its fingerprint stored.
pub(super) async fn fill(store: &SqliteStore) -> Result<(), Fault> {
    loop {
        let mut reader = store.reader().await?;
        let found = unknown(reader.connection()).await?;
        reader.finish();
        if found.is_empty() {
            return Ok(());
        }
        // What a loss of power undoes is worked out again.
        let mut writer = store.background_writer(Role::Swift).await?;
        let fill = sqlx::query(FILL).bind(json(&found)?);
        fill.execute(writer.connection()).await?;
        writer.finish();
    }
}

async fn unknown(connection: &mut SqliteConnection) -> Result<Vec<(i64, String)>, Fault> {
    let rows = sqlx::query(UNKNOWN).bind(CHUNK);
    let rows = rows.fetch_all(connection).await?;
    let found = rows.iter().map(|row| {
        let fingerprint = fingerprint(row)?.to_string();
        Ok((row.try_get("entry")?, fingerprint))
    });
    found.collect()
}
