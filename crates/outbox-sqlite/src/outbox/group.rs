//! Group commit: callers who append at the same time share statements and commits.
//!
//! A lone caller commits by itself. Callers who come while somebody else writes wait in line, and a
//! task that belongs to none of them commits for all who wait: dropping a caller's future harms no
//! other. Each is answered only once its own rows are durable.

use std::collections::VecDeque;
use std::sync::Arc;

use outbox_core::report::Appended;
use tokio::sync::oneshot;

use super::append::in_own_transaction;
use super::draft::{Draft, Packed};
use crate::error::Fault;
use crate::line::Line;
use crate::store::{SqliteStore, Writer};

/// The most messages of one caller that may wait in line; larger batches have their own commit.
pub(super) const GROUPED: usize = 64;
/// The most messages that share a commit.
const SHARED_ROWS: usize = 1_000;
/// About the most bytes that share a commit.
const SHARED_BYTES: usize = 2 << 20;

type Answer = Result<Vec<Appended>, Fault>;

/// One caller's messages, waiting in line; packed by the caller, so that those who come at the same
/// time do that side by side.
struct Waiting {
    messages: Vec<Packed>,
    answer: oneshot::Sender<Answer>,
}

impl Waiting {
    fn drafts(&self) -> impl Iterator<Item = Draft<'_>> {
        self.messages.iter().map(Packed::draft)
    }
}

/// The line of those who wait for a shared commit.
#[derive(Clone, Default)]
pub(super) struct Group(Line<Waiting>);

impl Group {
    /// Appends `drafts`, at most [`GROUPED`], and answers once they are durable.
    pub(super) async fn append(&self, store: &SqliteStore, drafts: &[Draft<'_>]) -> Answer {
        if self.0.is_idle()
            && let Some(writer) = store.idle_writer().await?
        {
            return commit(store, writer, drafts).await;
        }
        let answer = self.join(store, drafts);
        answer.await.map_err(|_| Fault::Interrupted)?
    }

    fn join(&self, store: &SqliteStore, drafts: &[Draft<'_>]) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        let messages = drafts.iter().map(Packed::of).collect();
        let (group, store) = (self.clone(), store.clone());
        self.0.join(Waiting { messages, answer }, move || {
            let (group, store) = (group.clone(), store.clone());
            async move { group.serve(&store).await }
        });
        receiver
    }

    async fn serve(&self, store: &SqliteStore) {
        // Whoever joins while this waits for its turn shares the commit.
        let writer = match store.writer().await {
            Ok(writer) => writer,
            Err(fault) => return fail(self.next(), fault),
        };
        let callers = self.next();
        let drafts: Vec<Draft<'_>> = callers.iter().flat_map(Waiting::drafts).collect();
        match commit(store, writer, &drafts).await {
            Ok(appended) => answer(callers, &appended),
            Err(fault) if fault.is_about_the_rows() && callers.len() > 1 => {
                serve_one_by_one(store, callers).await;
            }
            Err(fault) => fail(callers, fault),
        }
    }

    /// As many of those who wait as may share a commit.
    fn next(&self) -> Vec<Waiting> {
        self.0.take(share)
    }
}

/// Takes as many of `line` as may share a commit; those whose caller is gone are left out.
fn share(line: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let (mut rows, mut bytes) = (0, 0);
    let mut next = Vec::new();
    while let Some(waiting) = line.pop_front() {
        if waiting.answer.is_closed() {
            continue;
        }
        rows += waiting.messages.len();
        bytes += waiting
            .drafts()
            .map(|draft| draft.size_hint())
            .sum::<usize>();
        if !next.is_empty() && (rows > SHARED_ROWS || bytes > SHARED_BYTES) {
            line.push_front(waiting);
            break;
        }
        next.push(waiting);
    }
    next
}

/// Appends `drafts` in a commit of their own.
pub(super) async fn commit_alone(store: &SqliteStore, drafts: &[Draft<'_>]) -> Answer {
    let writer = store.writer().await?;
    commit(store, writer, drafts).await
}

async fn commit(store: &SqliteStore, mut writer: Writer, drafts: &[Draft<'_>]) -> Answer {
    let appended = in_own_transaction(&mut writer, drafts).await?;
    writer.finish();
    store.announce();
    Ok(appended)
}

async fn serve_one_by_one(store: &SqliteStore, callers: Vec<Waiting>) {
    for caller in callers {
        let drafts: Vec<Draft<'_>> = caller.drafts().collect();
        let result = commit_alone(store, &drafts).await;
        // A caller who is gone does not want its answer.
        let _ = caller.answer.send(result);
    }
}

fn answer(callers: Vec<Waiting>, appended: &[Appended]) {
    let mut rest = appended;
    for caller in callers {
        let (own, others) = rest.split_at(caller.messages.len().min(rest.len()));
        let _ = caller.answer.send(Ok(own.to_vec()));
        rest = others;
    }
}

fn fail(callers: Vec<Waiting>, fault: Fault) {
    let fault = Arc::new(fault);
    for caller in callers {
        let _ = caller.answer.send(Err(Fault::Shared(Arc::clone(&fault))));
    }
}
