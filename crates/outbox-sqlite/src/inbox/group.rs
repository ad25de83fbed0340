//! Group commit: handlers that are ready at the same time share a transaction and its commit.
//!
//! A task that belongs to none of them begins the transaction, lends it to one handler after the
//! other, each inside a savepoint, and commits. A handler that fails or is dropped is rolled back to
//! its savepoint, and no other part goes with it. Nobody is answered before the commit is durable:
//! not even who failed or found its message handled, because what he saw may yet be undone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::Fault;
use crate::line::Line;
use crate::store::SqliteStore;
use crate::unit::SqliteTransaction;

/// The most handlers that share a commit.
const SHARED: usize = 256;
/// How long a transaction lets further handlers in, because it keeps all other writers out.
const OPEN: Duration = Duration::from_millis(20);

const FIRST: &str = "SAVEPOINT outbox_part";
const KEEP: &str = "RELEASE outbox_part; SAVEPOINT outbox_part";
const UNDO: &str = "ROLLBACK TO outbox_part";

/// Whether a part's transaction was committed.
type Outcome = Result<(), Fault>;

/// Who waits for a part, and is given one or told why not.
type Ticket = oneshot::Sender<Result<Part, Fault>>;

/// The line of those who wait for a part in a transaction.
#[derive(Clone, Default)]
pub(super) struct Group {
    line: Line<Ticket>,
    /// How many of the next handlers are to have a commit of their own: one that spoils a commit
    /// for all is to be alone with it soon.
    alone: Arc<AtomicUsize>,
}

/// One handler's part in a transaction: undone where it is dropped before it is kept.
pub(super) struct Part {
    open: Option<SqliteTransaction>,
    keep: bool,
    back: Option<oneshot::Sender<Returned>>,
    outcome: oneshot::Receiver<Outcome>,
}

/// A transaction that comes back from a handler.
struct Returned {
    open: SqliteTransaction,
    keep: bool,
}

impl Part {
    /// The connection inside the transaction.
    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection, Fault> {
        let open = self.open.as_mut().ok_or(Fault::Interrupted)?;
        Ok(open.connection())
    }

    /// Ends the part, kept or undone, and answers once that is durable.
    pub(super) async fn end(mut self, keep: bool) -> Outcome {
        self.keep = keep;
        self.give_back();
        (&mut self.outcome).await.map_err(|_| Fault::Interrupted)?
    }

    fn give_back(&mut self) {
        if let (Some(open), Some(back)) = (self.open.take(), self.back.take()) {
            let keep = self.keep;
            // Where nobody takes it back, the transaction is rolled back.
            drop(back.send(Returned { open, keep }));
        }
    }
}

impl Drop for Part {
    /// Spares the other parts: a transaction that is not given back is rolled back with all of them.
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Group {
    /// A part in a transaction, once it is this handler's turn.
    pub(super) async fn join(&self, store: &SqliteStore) -> Result<Part, Fault> {
        let (ticket, turn) = oneshot::channel();
        let (group, store) = (self.clone(), store.clone());
        self.line.join(ticket, move || {
            let (group, store) = (group.clone(), store.clone());
            async move { group.serve(&store).await }
        });
        turn.await.map_err(|_| Fault::Interrupted)?
    }

    /// The next who waits; those who are gone are left out.
    fn next(&self) -> Option<Ticket> {
        self.line
            .take(|line| std::iter::from_fn(|| line.pop_front()).find(|ticket| !ticket.is_closed()))
    }

    /// How many handlers may share the next commit.
    fn share(&self) -> usize {
        let one_less = |alone: usize| alone.checked_sub(1);
        match self.alone.fetch_update(Relaxed, Relaxed, one_less) {
            Ok(_) => 1,
            Err(_) => SHARED,
        }
    }

    /// One transaction: begun, lent to one handler after the other, and committed.
    async fn serve(&self, store: &SqliteStore) {
        let open = match store.begin_unit().await {
            Ok(open) => open,
            Err(fault) => return self.refuse(fault),
        };
        let mut parts = Vec::new();
        let outcome = match self.lend(open, &mut parts).await {
            Ok(open) => store.commit_unit(open).await,
            Err(fault) => Err(fault),
        };
        if outcome.is_err() && parts.len() > 1 {
            self.alone.store(SHARED, Relaxed);
        }
        let outcome = outcome.map_err(Arc::new);
        for part in parts {
            // Who is gone does not want to know.
            drop(part.send(outcome.clone().map_err(Fault::Shared)));
        }
    }

    /// Lends the transaction to those who wait, as many as may share it; `parts` are told how it
    /// ends.
    async fn lend(
        &self,
        mut open: SqliteTransaction,
        parts: &mut Vec<oneshot::Sender<Outcome>>,
    ) -> Result<SqliteTransaction, Fault> {
        let (began, share) = (Instant::now(), self.share());
        run(&mut open, FIRST).await?;
        while parts.len() < share && (parts.is_empty() || began.elapsed() < OPEN) {
            let Some(ticket) = self.next() else {
                break;
            };
            let (back, returned) = oneshot::channel();
            let (told, outcome) = oneshot::channel();
            parts.push(told);
            // Where the handler is gone by now, the part is dropped, and so comes back.
            drop(ticket.send(Ok(Part {
                open: Some(open),
                keep: false,
                back: Some(back),
                outcome,
            })));
            let part = returned.await.map_err(|_| Fault::Interrupted)?;
            open = part.open;
            // This fails where the transaction has ended under the handler's hands.
            run(&mut open, if part.keep { KEEP } else { UNDO }).await?;
        }
        Ok(open)
    }

    /// Nothing can be begun: all who wait are told so.
    fn refuse(&self, fault: Fault) {
        let fault = Arc::new(fault);
        while let Some(ticket) = self.next() {
            drop(ticket.send(Err(Fault::Shared(Arc::clone(&fault)))));
        }
    }
}

async fn run(open: &mut SqliteTransaction, sql: &'static str) -> Result<(), Fault> {
    sqlx::raw_sql(sql).execute(open.connection()).await?;
    Ok(())
}
