use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use outbox_core::delivery::Delivery;
use outbox_core::error::{HandlerError, Result};
use outbox_core::id::MessageId;
use outbox_core::ports::{Handled, Handler, TransactionalHandler};
use outbox_core::time::Timestamp;
use sqlx::sqlite::SqliteConnection;

use crate::error::Fault;
use crate::purge;
use crate::scope;
use crate::store::{At, SqliteStore};
use crate::unit::require_transaction;
use group::{Group, Part};

mod group;

const RECORD: &str = "\
    INSERT INTO outbox_inbox (scope, id, handled_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";

const FORGET: &str = "\
    DELETE FROM outbox_inbox WHERE scope = ?3 AND id IN ( \
        SELECT id FROM outbox_inbox WHERE scope = ?3 AND handled_at <= ?1 \
        ORDER BY handled_at LIMIT +?2)";

/// How many old records go along with one new one, while there are any.
const FORGET_ALONG: usize = 20;

/// How often a consumer looks whether its oldest records are old enough, at most.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// One consumer's memory of the messages that it has handled, kept in the same transaction as what
/// handling them changed.
///
/// After any crash either both are there or neither is: the effect of each message exists exactly
/// once, however often it is delivered. That holds for effects in this file; what a handler does
/// elsewhere is not undone with the transaction.
///
/// Records go after a [`SqliteInbox::lifetime`], 30 days by default: longer than the outbox retains
/// a message and its longest retry take, and longer than somebody takes to redrive what rests in
/// quarantine. A message that comes again after that is handled again.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("outbox.db");
/// use async_trait::async_trait;
/// use outbox_core::delivery::Delivery;
/// use outbox_core::error::HandlerError;
/// use outbox_core::message::NewMessage;
/// use outbox_core::ports::{TransactionalHandler, TransactionalOutbox};
/// use outbox_sqlite::{SqliteInbox, SqliteOutbox, SqliteStore};
/// use sqlx::SqliteConnection;
///
/// struct Bill(SqliteOutbox);
///
/// #[async_trait]
/// impl TransactionalHandler<SqliteConnection> for Bill {
///     async fn handle(
///         &self,
///         tx: &mut SqliteConnection,
///         delivery: &Delivery,
///     ) -> Result<(), HandlerError> {
///         sqlx::query("INSERT INTO bills (order_id) VALUES (?1)")
///             .bind(delivery.message.ordering_key.as_deref())
///             .execute(&mut *tx)
///             .await
///             .map_err(HandlerError::retry)?;
///         let billed = NewMessage::new("billing", "billed");
///         self.0.append_in(tx, &[billed]).await.map_err(HandlerError::retry)?;
///         Ok(())
///     }
/// }
///
/// let store = SqliteStore::open(&path).await?;
/// let inbox = SqliteInbox::open(&store, "billing").await?;
/// let handler = inbox.handler(Bill(SqliteOutbox::on(&store)));
/// # let _ = handler;
/// # Ok::<_, outbox_core::OutboxError>(()) }).unwrap();
/// ```
#[derive(Clone)]
#[doc(alias = "idempotent_consumer")]
pub struct SqliteInbox {
    store: SqliteStore,
    scope: i64,
    lifetime: Duration,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Who may handle: SQLite has one writer, so that handlers wait in line here, for as long as
    /// their own timeouts let them, and share the commits that they wait for.
    group: Group,
    /// When to look for old records again, in microseconds.
    next_sweep: AtomicI64,
}

impl SqliteInbox {
    /// Opens the inbox of the consumer called `consumer`. Several processes of one consumer share
    /// it; consumers of other names have inboxes of their own, and each handles every message.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Config`] for a name that is empty or longer than 255 bytes,
    /// [`outbox_core::OutboxError::Backend`] where the store failed.
    ///
    /// # Cancel safety
    /// A dropped call may have registered the name.
    pub async fn open(store: &SqliteStore, consumer: &str) -> Result<Self> {
        Ok(Self {
            scope: scope::number(store, "inbox", consumer).await?,
            store: store.clone(),
            lifetime: Duration::from_secs(30 * 24 * 60 * 60),
            shared: Arc::default(),
        })
    }

    /// How long a handled message is remembered; 30 days by default.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// A handler that lets `handler` handle each message in a transaction, with the record that it
    /// did, and answers once both are committed. What was handled before is a duplicate.
    ///
    /// Handlers take turns. Those that are ready at the same time share a transaction and its
    /// commit, up to 256 of them within 20 ms: each works in a savepoint of its own, so that one
    /// that fails, panics or is dropped takes back its own part and no other. They see what those
    /// before them have written, and nobody is answered before all of it is durable. Where a commit
    /// fails, all who shared it fail, and the next ones have commits of their own.
    ///
    /// The transaction holds the file's one write lock from its start, against all processes: do
    /// what takes long before it, and stay well under the busy timeout and a third of the worker's
    /// lease. Inside it, write through the connection that is handed over and through no other, and
    /// end no transaction but those that you began in it.
    pub fn handler<H>(&self, handler: H) -> InboxHandler<H>
    where
        H: TransactionalHandler<SqliteConnection>,
    {
        InboxHandler {
            inbox: self.clone(),
            handler,
        }
    }

    /// Records in the caller's own transaction that `id` is handled; `false` where it was before,
    /// and then the caller is to change nothing.
    ///
    /// `connection` is a connection to the store's file, inside a transaction; begin that with
    /// `BEGIN IMMEDIATE`, so that it need not be tried again.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the connection is not inside a transaction, or where SQLite
    /// failed; abandon the transaction after any error.
    ///
    /// # Cancel safety
    /// The caller's transaction decides.
    pub async fn record_in(
        &self,
        connection: &mut SqliteConnection,
        id: MessageId,
    ) -> Result<bool> {
        let record = async {
            require_transaction(connection).await?;
            self.record(connection, id).await
        };
        record.await.at(&self.store, "record in inbox")
    }

    /// Forgets up to `max` messages that were handled longer ago than the lifetime; answers how
    /// many. Each new record does so for a few, so that nobody has to call this.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the store failed.
    ///
    /// # Cancel safety
    /// A dropped call took effect or did not.
    pub async fn purge(&self, now: Timestamp, max: usize) -> Result<u64> {
        let before = (now - self.lifetime, Some(self.scope));
        let purged = purge::in_chunks_of(&self.store, FORGET, before, max).await;
        purged.at(&self.store, "purge inbox")
    }

    /// Records `id`, and forgets some of what is old; whether `id` is news.
    async fn record(
        &self,
        connection: &mut SqliteConnection,
        id: MessageId,
    ) -> Result<bool, Fault> {
        let now = self.store.options().clock.now();
        let recorded = sqlx::query(RECORD)
            .bind(self.scope)
            .bind(&id.as_bytes()[..])
            .bind(now.as_micros())
            .execute(&mut *connection)
            .await?;
        if recorded.rows_affected() == 0 {
            return Ok(false);
        }
        if now.as_micros() >= self.shared.next_sweep.load(Ordering::Relaxed) {
            let forgotten = sqlx::query(FORGET)
                .bind((now - self.lifetime).as_micros())
                .bind(FORGET_ALONG as i64)
                .bind(self.scope)
                .execute(connection)
                .await?
                .rows_affected();
            if forgotten < FORGET_ALONG as u64 {
                let next = (now + SWEEP_EVERY).as_micros();
                self.shared.next_sweep.store(next, Ordering::Relaxed);
            }
        }
        Ok(true)
    }
}

impl fmt::Debug for SqliteInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteInbox")
            .field("store", &self.store)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// A handler whose effects and inbox record commit together; see [`SqliteInbox::handler`].
#[derive(Debug)]
pub struct InboxHandler<H> {
    inbox: SqliteInbox,
    handler: H,
}

#[async_trait]
impl<H> Handler for InboxHandler<H>
where
    H: TransactionalHandler<SqliteConnection>,
{
    async fn handle(&self, delivery: &Delivery) -> Result<Handled, HandlerError> {
        let store = &self.inbox.store;
        let part = self.inbox.shared.group.join(store).await;
        let mut part = part.at(store, "begin").map_err(HandlerError::retry)?;
        let answer = self.work(&mut part, delivery).await;
        let keep = matches!(answer, Ok(Handled::Done));
        let ended = part.end(keep).await.at(store, "commit");
        ended.map_err(HandlerError::retry)?;
        answer
    }
}

impl<H> InboxHandler<H>
where
    H: TransactionalHandler<SqliteConnection>,
{
    async fn work(&self, part: &mut Part, delivery: &Delivery) -> Result<Handled, HandlerError> {
        let store = &self.inbox.store;
        let record = async {
            let connection = part.connection()?;
            self.inbox.record(connection, delivery.message.id).await
        };
        let news = record.await.at(store, "record in inbox");
        if !news.map_err(HandlerError::retry)? {
            return Ok(Handled::Duplicate);
        }
        let connection = part.connection().at(store, "handle");
        let connection = connection.map_err(HandlerError::retry)?;
        self.handler.handle(connection, delivery).await?;
        Ok(Handled::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::assert_no_scans;

    #[tokio::test]
    async fn no_statement_grows_with_what_is_remembered() {
        assert_no_scans(&[RECORD, FORGET]).await;
    }
}
