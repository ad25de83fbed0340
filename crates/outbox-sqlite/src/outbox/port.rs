use std::path::PathBuf;

use async_trait::async_trait;
use outbox_core::error::Result;
use outbox_core::id::{MessageId, WorkerId};
use outbox_core::lease::LeaseToken;
use outbox_core::message::NewMessage;
use outbox_core::ports::{
    ClaimRequest, Outbox, Replay, ReplayRequest, Settlement, TransactionalOutbox,
};
use outbox_core::report::{AppendReport, ClaimReport, OutboxStats, ReplayReport, SettleReport};
use outbox_core::signal::Wake;
use outbox_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::draft::Draft;
use super::{append, claim, group, lease, maintain, replay, settle};
use crate::options::SqliteOptions;
use crate::store::{At, SqliteStore};

/// The outbox in an SQLite database.
///
/// Any number of processes on one host may append to one file, and any number of relays may stand
/// by on it; one of them holds the lease at a time. Order is commit order, but that
/// fresh messages without an ordering key go ahead of a backlog.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("outbox.db");
/// use outbox_core::message::NewMessage;
/// use outbox_core::ports::{Outbox, TransactionalOutbox, UnitOfWork};
/// use outbox_sqlite::SqliteOutbox;
///
/// let outbox = SqliteOutbox::open(&path).await?;
///
/// // Together with the caller's own rows: both are there, or neither.
/// let store = outbox.store();
/// let mut transaction = store.begin().await?;
/// let connection = store.connection(&mut transaction);
/// sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY)").execute(&mut *connection).await.unwrap();
/// sqlx::query("INSERT INTO orders VALUES (7)").execute(&mut *connection).await.unwrap();
/// outbox.append_in(connection, &[NewMessage::new("orders", "order 7 was placed")]).await?;
/// store.commit(transaction).await?;
///
/// // By itself.
/// outbox.append(&[NewMessage::new("orders", "order 8 was placed")]).await?;
/// assert_eq!(outbox.stats(outbox_core::time::Timestamp::EPOCH).await?.unsent(), 2);
/// # Ok::<_, outbox_core::OutboxError>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "SqliteTaskOutbox")]
#[doc(alias = "event_outbox")]
pub struct SqliteOutbox {
    store: SqliteStore,
}

impl SqliteOutbox {
    /// Opens the database file at `path` with the default options.
    ///
    /// # Errors
    /// As [`SqliteStore::open_with`].
    ///
    /// # Cancel safety
    /// As [`SqliteStore::open_with`].
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(SqliteOptions::new(path)).await
    }

    /// Opens a database file.
    ///
    /// # Errors
    /// As [`SqliteStore::open_with`].
    ///
    /// # Cancel safety
    /// As [`SqliteStore::open_with`].
    pub async fn open_with(options: SqliteOptions) -> Result<Self> {
        Ok(Self::on(&SqliteStore::open_with(options).await?))
    }

    /// The outbox in a store that is open.
    #[must_use]
    pub fn on(store: &SqliteStore) -> Self {
        Self {
            store: store.clone(),
        }
    }

    /// The store that it is in.
    #[must_use]
    pub fn store(&self) -> &SqliteStore {
        &self.store
    }

    /// Checks `messages` and gives them what append gives them.
    fn drafts<'a>(&self, messages: &'a [NewMessage]) -> Result<Vec<Draft<'a>>> {
        let options = self.store.options();
        options.limits.check_batch(messages)?;
        let now = options.clock.now();
        let draft = |message: &'a NewMessage| {
            let id = message.id;
            let id = id.unwrap_or_else(|| MessageId::new(now, &options.entropy));
            Draft::new(message, id, now)
        };
        Ok(messages.iter().map(draft).collect())
    }
}

#[async_trait]
impl Outbox for SqliteOutbox {
    async fn append(&self, messages: &[NewMessage]) -> Result<AppendReport> {
        let drafts = self.drafts(messages)?;
        if drafts.is_empty() {
            return Ok(AppendReport::default());
        }
        let group = &self.store.outbox().group;
        let messages = if drafts.len() <= group::GROUPED {
            group.append(&self.store, &drafts).await
        } else {
            group::commit_alone(&self.store, &drafts).await
        };
        let messages = messages.at(&self.store, "append")?;
        Ok(AppendReport { messages })
    }

    async fn claim(&self, request: &ClaimRequest) -> Result<ClaimReport> {
        let shared = self.store.outbox();
        let _one_at_a_time = shared.claiming.lock().await;
        claim::claim(&self.store, shared, request)
            .await
            .at(&self.store, "claim")
    }

    async fn settle(&self, settlements: &[Settlement], now: Timestamp) -> Result<SettleReport> {
        settle::settle(&self.store, self.store.outbox(), settlements, now)
            .await
            .at(&self.store, "settle")
    }

    async fn extend(&self, tokens: &[LeaseToken], until: Timestamp) -> Result<Vec<LeaseToken>> {
        lease::extend_tokens(&self.store, self.store.outbox(), tokens, until)
            .await
            .at(&self.store, "extend")
    }

    async fn release(&self, owner: WorkerId) -> Result<()> {
        lease::release(&self.store, self.store.outbox(), owner)
            .await
            .at(&self.store, "release")
    }

    async fn resume_key(&self, ordering_key: &str) -> Result<bool> {
        maintain::resume_key(&self.store, ordering_key)
            .await
            .at(&self.store, "resume a key")
    }

    async fn purge(&self, before: Timestamp, max: usize) -> Result<u64> {
        maintain::purge(&self.store, before, max)
            .await
            .at(&self.store, "purge")
    }

    async fn stats(&self, now: Timestamp) -> Result<OutboxStats> {
        maintain::stats(&self.store, now)
            .await
            .at(&self.store, "stats")
    }

    fn wake(&self) -> &Wake {
        self.store.wake()
    }
}

#[async_trait]
impl Replay for SqliteOutbox {
    async fn replay(&self, request: &ReplayRequest) -> Result<ReplayReport> {
        replay::replay(&self.store, request)
            .await
            .at(&self.store, "replay")
    }
}

#[async_trait]
impl TransactionalOutbox for SqliteOutbox {
    type Tx = SqliteConnection;

    /// As [`TransactionalOutbox::append_in`]; it changes what `last_insert_rowid()` answers.
    async fn append_in(
        &self,
        tx: &mut SqliteConnection,
        messages: &[NewMessage],
    ) -> Result<AppendReport> {
        let drafts = self.drafts(messages)?;
        let messages = append::in_callers_transaction(tx, &drafts)
            .await
            .at(&self.store, "append in a transaction")?;
        self.store.note_appended();
        Ok(AppendReport { messages })
    }
}
