//! Short numbers for long names, so that a row which repeats a name a million times stays small.

use outbox_core::error::{ConfigError, Result};

use crate::error::Fault;
use crate::store::{At, SqliteStore};

/// The longest name of a queue, a deduplication cache, a consumer or a limiter, in bytes.
const NAME_BYTES: usize = 255;

const NUMBER: &str = "SELECT scope FROM outbox_scopes WHERE name = ?1";

const REGISTER: &str = "INSERT INTO outbox_scopes (name) VALUES (?1) ON CONFLICT (name) DO NOTHING";

/// Notes a name that is empty or too long.
pub(crate) fn check_name(error: &mut ConfigError, name: &str) {
    if name.is_empty() || name.len() > NAME_BYTES {
        let length = name.len();
        let problem = format!("is {length} bytes long, but 1 to {NAME_BYTES} are needed");
        error.add("name", problem);
    }
}

/// The number of the `kind` that is called `name`, which it is given here where it has none.
pub(crate) async fn number(store: &SqliteStore, kind: &str, name: &str) -> Result<i64> {
    let mut error = ConfigError::default();
    check_name(&mut error, name);
    error.into_result()?;
    let full_name = format!("{kind}:{name}");
    find_or_register(store, &full_name).await.at(store, "open")
}

async fn find_or_register(store: &SqliteStore, name: &str) -> Result<i64, Fault> {
    let mut reader = store.reader().await?;
    let known: Option<i64> = sqlx::query_scalar(NUMBER)
        .bind(name)
        .fetch_optional(reader.connection())
        .await?;
    reader.finish();
    if let Some(scope) = known {
        return Ok(scope);
    }
    let mut writer = store.writer().await?;
    let register = sqlx::query(REGISTER).bind(name);
    register.execute(writer.connection()).await?;
    let scope = sqlx::query_scalar(NUMBER)
        .bind(name)
        .fetch_one(writer.connection())
        .await?;
    writer.finish();
    Ok(scope)
}
