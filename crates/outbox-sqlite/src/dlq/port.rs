use async_trait::async_trait;
use outbox_core::error::Result;
use outbox_core::time::Timestamp;
use outbox_dlq::{
    Action, ActionKind, AuditRecord, CountRequest, Counts, DeadLetter, DiscardReport,
    DiscardRequest, DlqEntry, Filter, ImportReport, LetterId, Listing, Move, Page, Quarantine,
    RedriveReport, RedriveRequest,
};
use sqlx::Row;

use super::audit::{self, Step};
use super::{count, fill, import, move_out, pick, redrive};
use crate::connect::Role;
use crate::error::Fault;
use crate::store::{At, SqliteStore};

/// The most that one transaction deletes.
const CHUNK: usize = 200;

/// The quarantine of an SQLite file: of its outbox, and of every queue in it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("outbox.db");
/// use outbox_dlq::{Filter, Page, Quarantine};
/// use outbox_sqlite::{SqliteQuarantine, SqliteStore};
///
/// let store = SqliteStore::open(&path).await?;
/// let quarantine = SqliteQuarantine::on(&store);
/// let listing = quarantine.list(&Filter::default(), Page::first(20)).await?;
/// assert!(listing.letters.is_empty() && listing.next.is_none());
/// # Ok::<_, outbox_core::OutboxError>(()) }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct SqliteQuarantine {
    store: SqliteStore,
}

impl SqliteQuarantine {
    /// The quarantine of a store that is open.
    #[must_use]
    pub fn on(store: &SqliteStore) -> Self {
        Self {
            store: store.clone(),
        }
    }

    /// Makes sure that those that `filter` asks for by fingerprint can be found by it.
    async fn prepare(&self, filter: &Filter) -> Result<(), Fault> {
        pick::check(filter)?;
        if filter.fingerprint.is_some() {
            fill::fill(&self.store).await?;
        }
        Ok(())
    }

    async fn page(&self, filter: &Filter, page: Page) -> Result<Listing, Fault> {
        self.prepare(filter).await?;
        let mut reader = self.store.reader().await?;
        let listing = pick::page(reader.connection(), filter, page).await?;
        reader.finish();
        Ok(listing)
    }

    async fn newest(&self) -> Result<Option<LetterId>, Fault> {
        let mut reader = self.store.reader().await?;
        let last = pick::last(reader.connection()).await?;
        reader.finish();
        Ok(last)
    }

    async fn send_back(&self, request: &RedriveRequest) -> Result<RedriveReport, Fault> {
        self.prepare(&request.filter).await?;
        redrive::redrive(&self.store, request).await
    }

    async fn counted(&self, request: &CountRequest) -> Result<Counts, Fault> {
        pick::check(&request.filter)?;
        fill::fill(&self.store).await?;
        let mut reader = self.store.reader().await?;
        let counts = count::count(reader.connection(), request).await?;
        reader.finish();
        Ok(counts)
    }

    async fn delete(&self, request: &DiscardRequest) -> Result<DiscardReport, Fault> {
        self.prepare(&request.filter).await?;
        let max = request.max.min(CHUNK);
        let mut writer = self.store.background_writer(Role::Durable).await?;
        writer.begin().await?;
        let connection = writer.connection();
        let mut query = pick::meant("SELECT entry FROM outbox_quarantine", &request.filter);
        query.push(" ORDER BY entry LIMIT ").push_bind(max as i64);
        let rows = query.build().fetch_all(&mut *connection).await?;
        let entries: Vec<i64> = rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()?;
        pick::remove(connection, entries.iter().copied()).await?;
        let step = Step {
            kind: ActionKind::Discard,
            action: &request.action,
            what: &request.filter.to_string(),
            letters: entries.len() as u64,
            now: request.now,
        };
        audit::record(connection, step).await?;
        writer.commit().await?;
        writer.finish();
        Ok(DiscardReport {
            discarded: entries.len() as u64,
            more: entries.len() == max,
        })
    }

    async fn records(&self, after: u64, max: usize) -> Result<Vec<AuditRecord>, Fault> {
        let mut reader = self.store.reader().await?;
        let records = audit::read(reader.connection(), after, max).await?;
        reader.finish();
        Ok(records)
    }
}

/// A batch moves no more than 200 messages in one transaction while others in the process write, and no
/// more than 1,000 while they do not; [`Quarantine::redrive`] and [`Quarantine::discard`] no more than
/// 200 in each call.
#[async_trait]
impl Quarantine for SqliteQuarantine {
    async fn quarantine(&self, entries: &[DlqEntry], now: Timestamp) -> Result<Vec<Move>> {
        let moves = move_out::quarantine(&self.store, entries, now).await;
        moves.at(&self.store, "quarantine")
    }

    async fn list(&self, filter: &Filter, page: Page) -> Result<Listing> {
        let listing = self.page(filter, page).await;
        listing.at(&self.store, "list dead letters")
    }

    async fn last(&self) -> Result<Option<LetterId>> {
        let last = self.newest().await;
        last.at(&self.store, "find the last dead letter")
    }

    async fn redrive(&self, request: &RedriveRequest) -> Result<RedriveReport> {
        let report = self.send_back(request).await;
        report.at(&self.store, "redrive")
    }

    async fn discard(&self, request: &DiscardRequest) -> Result<DiscardReport> {
        let report = self.delete(request).await;
        report.at(&self.store, "discard dead letters")
    }

    async fn count(&self, request: &CountRequest) -> Result<Counts> {
        let counts = self.counted(request).await;
        counts.at(&self.store, "count dead letters")
    }

    async fn import(
        &self,
        letters: &[DeadLetter],
        action: &Action,
        now: Timestamp,
    ) -> Result<ImportReport> {
        let report = import::import(&self.store, letters, (action, now)).await;
        report.at(&self.store, "import dead letters")
    }

    async fn audit(&self, after: u64, max: usize) -> Result<Vec<AuditRecord>> {
        let records = self.records(after, max).await;
        records.at(&self.store, "read the audit")
    }
}
