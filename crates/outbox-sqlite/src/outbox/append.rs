//! Appending: as one statement where that will do, and carefully where ids or keys may be known.

use std::collections::{HashMap, HashSet};

use outbox_core::id::MessageId;
use outbox_core::report::Appended;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::draft::{Draft, fit_one_statement, pack};
use crate::answer;
use crate::codec::jsonb::{self, Object};
use crate::error::{FOREIGN_KEY, Fault, NOT_NULL};
use crate::store::Writer;
use crate::unit::require_transaction;

/// How many ids or keys are looked up at a time.
const LOOKUP: usize = 1_000;

/// Appends `drafts` in a transaction of their own.
pub(super) async fn in_own_transaction(
    writer: &mut Writer,
    drafts: &[Draft<'_>],
) -> Result<Vec<Appended>, Fault> {
    if no_keys(drafts) && fit_one_statement(drafts) {
        let inserted = match drafts {
            [draft] => insert_one(writer.connection(), draft, (INSERT_ONE, 1)).await,
            _ => insert(writer.connection(), drafts).await,
        };
        match inserted {
            Ok(()) => return Ok(all_new(drafts)),
            Err(fault) if fault.is_duplicate() => {}
            Err(fault) => return Err(fault),
        }
    }
    writer.begin().await?;
    let appended = carefully(writer.connection(), drafts).await?;
    writer.commit().await?;
    Ok(appended)
}

/// Appends `drafts` to the transaction that `connection` is in; refuses where it is in none.
pub(super) async fn in_callers_transaction(
    connection: &mut SqliteConnection,
    drafts: &[Draft<'_>],
) -> Result<Vec<Appended>, Fault> {
    if let ([draft], true) = (drafts, no_keys(drafts)) {
        match insert_one(connection, draft, (INSERT_GUARDED, 2)).await {
            Ok(()) => return Ok(all_new(drafts)),
            Err(fault) => match fault.code() {
                Some(FOREIGN_KEY) => return Err(Fault::NotInTransaction),
                Some(NOT_NULL) => {}
                _ if fault.is_duplicate() => {}
                _ => return Err(fault),
            },
        }
    }
    require_transaction(connection).await?;
    if no_keys(drafts) && fit_one_statement(drafts) {
        match insert(connection, drafts).await {
            Ok(()) => return Ok(all_new(drafts)),
            Err(fault) if fault.is_duplicate() => {}
            Err(fault) => return Err(fault),
        }
    }
    carefully(connection, drafts).await
}

fn no_keys(drafts: &[Draft<'_>]) -> bool {
    drafts.iter().all(|draft| draft.idempotency_key.is_none())
}

fn all_new(drafts: &[Draft<'_>]) -> Vec<Appended> {
    let new = |draft: &Draft<'_>| Appended {
        id: draft.id,
        duplicate: false,
    };
    drafts.iter().map(new).collect()
}

/// Inserts rows whose ids are new; all of a statement's rows or none.
async fn insert(connection: &mut SqliteConnection, drafts: &[Draft<'_>]) -> Result<(), Fault> {
    let mut rest = drafts;
    while !rest.is_empty() {
        let (statement, taken) = pack(rest);
        let query = sqlx::query(statement.sql)
            .bind(statement.rows)
            .bind(statement.due_at.as_micros());
        answer::execute(connection, query, 1).await?;
        rest = &rest[taken..];
    }
    Ok(())
}

const INSERT_ONE: &str = "\
    INSERT INTO outbox_messages (id, state, due_at, topic, ordering_key, body) \
    VALUES ($1, $2, $3, $4, $5, $6)";

/// One row whose guard refers to nothing until the second statement takes it away. Where no
/// transaction is open, the first statement commits by itself, and fails on that. Where foreign keys
/// are not enforced, the missing due time makes it fail instead of passing unguarded.
const INSERT_GUARDED: &str = "\
    INSERT INTO outbox_messages (id, state, due_at, topic, ordering_key, body, guard) \
    VALUES ($1, $2, (SELECT $3 FROM pragma_foreign_keys WHERE foreign_keys), $4, $5, $6, 1); \
    UPDATE outbox_messages SET guard = NULL WHERE seq = last_insert_rowid()";

async fn insert_one(
    connection: &mut SqliteConnection,
    draft: &Draft<'_>,
    (sql, statements): (&'static str, usize),
) -> Result<(), Fault> {
    let query = sqlx::query(sql)
        .bind(draft.id.as_bytes().as_slice())
        .bind(i64::from(draft.waits()))
        .bind(draft.due_at.as_micros())
        .bind(draft.waiting_topic())
        .bind(draft.ordering_key)
        .bind(draft.body());
    answer::execute(connection, query, statements).await
}

/// Appends what is new and answers what is known, inside a transaction.
async fn carefully(
    connection: &mut SqliteConnection,
    drafts: &[Draft<'_>],
) -> Result<Vec<Appended>, Fault> {
    // A transaction that reads before it writes may find that another has written meanwhile, and
    // fail: this takes the write lock and changes nothing.
    sqlx::query("DELETE FROM outbox_none")
        .execute(&mut *connection)
        .await?;
    let mut ids = known_ids(connection, drafts).await?;
    let mut keys = known_keys(connection, drafts).await?;
    let mut appended = Vec::with_capacity(drafts.len());
    let mut new = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let key = draft.idempotency_key;
        let first = key.and_then(|key| keys.get(key).copied());
        let duplicate = first.is_some() || ids.contains(&draft.id);
        if !duplicate {
            ids.insert(draft.id);
            keys.extend(key.map(|key| (key.to_owned(), draft.id)));
            new.push(*draft);
        }
        appended.push(Appended {
            id: first.unwrap_or(draft.id),
            duplicate,
        });
    }
    insert(connection, &new).await?;
    remember_keys(connection, &new).await?;
    Ok(appended)
}

pub(super) const KNOWN_IDS: &str = "SELECT id FROM outbox_messages \
    WHERE id IN (SELECT CAST(value AS BLOB) FROM json_each($1))";

async fn known_ids(
    connection: &mut SqliteConnection,
    drafts: &[Draft<'_>],
) -> Result<HashSet<MessageId>, Fault> {
    let mut known = HashSet::new();
    for drafts in drafts.chunks(LOOKUP) {
        let ids = jsonb::texts(drafts.iter().map(|draft| draft.id.as_bytes().as_slice()));
        let rows = sqlx::query(KNOWN_IDS)
            .bind(ids)
            .fetch_all(&mut *connection)
            .await?;
        for row in rows {
            known.insert(id_in(&row, 0)?);
        }
    }
    Ok(known)
}

pub(super) const KNOWN_KEYS: &str = "SELECT idempotency_key, message_id FROM outbox_idempotency \
    WHERE idempotency_key IN (SELECT value FROM json_each($1))";

async fn known_keys(
    connection: &mut SqliteConnection,
    drafts: &[Draft<'_>],
) -> Result<HashMap<String, MessageId>, Fault> {
    let mut known = HashMap::new();
    let keys: Vec<&[u8]> = drafts
        .iter()
        .filter_map(|draft| draft.idempotency_key)
        .map(str::as_bytes)
        .collect();
    for keys in keys.chunks(LOOKUP) {
        let rows = sqlx::query(KNOWN_KEYS)
            .bind(jsonb::texts(keys.iter().copied()))
            .fetch_all(&mut *connection)
            .await?;
        for row in rows {
            known.insert(row.try_get(0)?, id_in(&row, 1)?);
        }
    }
    Ok(known)
}

async fn remember_keys(
    connection: &mut SqliteConnection,
    drafts: &[Draft<'_>],
) -> Result<(), Fault> {
    for drafts in drafts.chunks(LOOKUP) {
        let mut keys = Object::with_capacity(drafts.len() * 64);
        for draft in drafts {
            let Some(key) = draft.idempotency_key else {
                continue;
            };
            keys.entry(
                |out| out.extend_from_slice(key.as_bytes()),
                |out| out.extend_from_slice(draft.id.as_bytes()),
            );
        }
        sqlx::query(
            "INSERT INTO outbox_idempotency (idempotency_key, message_id, created_at) \
             SELECT key, CAST(value AS BLOB), $2 FROM json_each($1)",
        )
        .bind(keys.into_bytes())
        .bind(drafts[0].now.as_micros())
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// The id in a column of 16 bytes.
pub(super) fn id_in(row: &sqlx::sqlite::SqliteRow, column: usize) -> Result<MessageId, Fault> {
    let bytes: &[u8] = row.try_get(column)?;
    let bytes = bytes.try_into().map_err(|_| sqlx::Error::ColumnDecode {
        index: column.to_string(),
        source: "a message id has 16 bytes".into(),
    })?;
    Ok(MessageId::from_bytes(bytes))
}
