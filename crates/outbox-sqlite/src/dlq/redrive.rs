use std::collections::HashMap;

use outbox_dlq::{ActionKind, LetterId, Origin, RedriveReport, RedriveRequest, Refusal};
use sqlx::sqlite::SqliteConnection;

use super::audit::{self, Step};
use super::letter::Stored;
use super::pick;
use super::send_back::{Destination, already_there, send_back};
use crate::connect::Role;
use crate::error::Fault;
use crate::store::SqliteStore;

/// The most that one call sends back: so that an append waits no longer than for a few milliseconds.
const CHUNK: usize = 200;

/// Sends a batch back, in one transaction; a dry run looks, and rolls back.
pub(super) async fn redrive(
    store: &SqliteStore,
    request: &RedriveRequest,
) -> Result<RedriveReport, Fault> {
    let mut writer = store.background_writer(Role::Durable).await?;
    writer.begin().await?;
    let report = Redrive { request }.run(writer.connection()).await?;
    let is_idle = report.full.is_some() && report.redriven.is_empty();
    if request.dry_run || is_idle {
        writer.rollback().await?;
    } else {
        writer.commit().await?;
        store.announce();
    }
    writer.finish();
    Ok(report)
}

struct Redrive<'a> {
    request: &'a RedriveRequest,
}

impl Redrive<'_> {
    async fn run(&self, connection: &mut SqliteConnection) -> Result<RedriveReport, Fault> {
        let RedriveRequest { filter, after, .. } = self.request;
        let max = self.request.max.min(CHUNK);
        let found = pick::in_order(connection, filter, after.as_ref(), max).await?;
        let entries: Vec<_> = found
            .rows
            .iter()
            .map(|row| row.id.0.cast_signed())
            .collect();
        let stored = pick::read(connection, &entries).await?;
        let stored: HashMap<_, _> = stored.iter().map(|s| (s.letter.id, s)).collect();
        let in_order: Vec<&Stored> = found
            .rows
            .iter()
            .filter_map(|row| stored.get(&row.id).copied())
            .collect();
        let (mut report, mut seen) = (RedriveReport::default(), 0);
        for letters in in_order.chunk_by(|a, b| a.letter.origin == b.letter.origin) {
            seen += self.of_one_origin(connection, letters, &mut report).await?;
            if report.full.is_some() {
                break;
            }
        }
        if !self.request.dry_run {
            self.leave(connection, &report.redriven).await?;
        }
        if found.more || report.full.is_some() {
            let last = found.rows.into_iter().take(seen).next_back();
            report.next = last.or_else(|| after.clone());
        }
        Ok(report)
    }

    /// Sends letters back until its queue is full; how many it has dealt with.
    async fn of_one_origin(
        &self,
        connection: &mut SqliteConnection,
        letters: &[&Stored],
        report: &mut RedriveReport,
    ) -> Result<usize, Fault> {
        let Some(first) = letters.first() else {
            return Ok(0);
        };
        let origin = &first.letter.origin;
        let Some(destination) = Destination::of(connection, origin).await? else {
            let refuse = |stored: &&Stored| Refusal::NoOrigin {
                id: stored.letter.id,
                origin: origin.clone(),
            };
            report.refused.extend(letters.iter().map(refuse));
            return Ok(letters.len());
        };
        let mut there = already_there(connection, destination, letters).await?;
        let mut going = Vec::with_capacity(letters.len());
        let room = match self.request.dry_run {
            true => usize::MAX,
            false => destination.room(),
        };
        let mut seen = 0;
        for stored in letters {
            let message = stored.letter.message.as_ref().map(|message| message.id);
            let is_there = message.is_some_and(|id| !there.insert(id));
            match self.objection(stored, origin, is_there) {
                Some(refusal) => report.refused.push(refusal),
                None if going.len() == room => {
                    report.full = Some(origin.clone());
                    break;
                }
                None => going.push(*stored),
            }
            seen += 1;
        }
        report
            .redriven
            .extend(going.iter().map(|stored| stored.letter.id));
        if self.request.dry_run || going.is_empty() {
            return Ok(seen);
        }
        let how = (self.request.attempts, self.request.now);
        send_back(connection, destination, &going, how).await?;
        Ok(seen)
    }

    fn objection(&self, stored: &Stored, origin: &Origin, is_there: bool) -> Option<Refusal> {
        let letter = &stored.letter;
        let (id, redrives) = (letter.id, letter.redrives);
        if letter.message.is_none() || letter.problem.is_some() {
            return Some(Refusal::Unreadable { id });
        }
        let limit = self.request.max_redrives;
        if let Some(limit) = limit.filter(|limit| redrives >= *limit) {
            return Some(Refusal::TooOften {
                id,
                redrives,
                limit,
            });
        }
        is_there.then(|| Refusal::AlreadyThere {
            id,
            origin: origin.clone(),
        })
    }

    async fn leave(
        &self,
        connection: &mut SqliteConnection,
        redriven: &[LetterId],
    ) -> Result<(), Fault> {
        pick::remove(connection, redriven.iter().map(|id| id.0.cast_signed())).await?;
        let step = Step {
            kind: ActionKind::Redrive,
            action: &self.request.action,
            what: &self.request.filter.to_string(),
            letters: redriven.len() as u64,
            now: self.request.now,
        };
        audit::record(connection, step).await
    }
}
