use std::collections::HashSet;

use bytes::Bytes;
use outbox_core::message::Message;
use outbox_dlq::{
    ActionKind, Attempts, DeadLetter, Origin, RedriveCursor, RedriveReport, RedriveRequest, Refusal,
};

use super::label::{Index, Label, order_key};
use super::letter::Stored;
use super::move_out::Among;
use super::pick::entry_arg;
use super::port::RedisQuarantine;
use super::{audit, scripts};
use crate::error::Fault;
use crate::link::{Arg, Reply};

/// The most that one call sends back, so that nobody waits long for the server.
const CHUNK: usize = 200;

/// A letter that is meant.
struct Candidate<'a> {
    label: &'a Label,
    /// That of its message, where it can be read.
    id: Option<Bytes>,
    /// Why it is not sent back.
    refusal: Option<Refusal>,
    /// Whether its message may be in the queue for the first time, and was looked for there.
    was_looked_for: bool,
}

impl RedisQuarantine {
    /// Sends a batch back, in one script.
    pub(super) async fn send_back(&self, request: &RedriveRequest) -> Result<RedriveReport, Fault> {
        self.prepare(&request.filter).await?;
        let after = request.after.as_ref().map(order_key);
        let max = request.max.min(CHUNK);
        let picked = self.pick(&request.filter, Index::Order, after, max).await?;
        let (came_to, stored) = self.read(&picked.labels).await?;
        let looked_at = pairs(&picked.labels[..came_to], &stored);
        let looked_at = looked_at.into_iter().map(|(label, stored)| Candidate {
            label,
            id: id(&stored.letter),
            refusal: self.objection(&stored.letter, request),
            was_looked_for: false,
        });
        let mut looked_at: Vec<_> = looked_at.collect();
        self.look_for(&mut looked_at).await?;
        let answers = self.send(&looked_at, request).await?;
        let mut report = RedriveReport::default();
        let reached = self.tell_each(looked_at, &answers, &mut report);
        if report.full.is_some() {
            report.next = reached.or_else(|| request.after.clone());
            return Ok(report);
        }
        let last = came_to.checked_sub(1).map(|last| &picked.labels[last]);
        let more = picked.more || came_to < picked.labels.len();
        report.next = last.filter(|_| more).map(Label::cursor);
        Ok(report)
    }

    /// Writes into `report` what came of each, up to the first that found the queue full; the last one
    /// before it.
    fn tell_each(
        &self,
        looked_at: Vec<Candidate<'_>>,
        answers: &[u8],
        report: &mut RedriveReport,
    ) -> Option<RedriveCursor> {
        let (mut answers, mut reached) = (answers.iter(), None);
        for Candidate { label, refusal, .. } in looked_at {
            match refusal {
                Some(refusal) => report.refused.push(refusal),
                None => match answers.next() {
                    Some(b'm') => report.redriven.push(label.id()),
                    Some(b't') => report.refused.push(is_there_already(label)),
                    Some(_) => {}
                    None => {
                        report.full = Some(Origin::Queue(self.queue_name().to_owned()));
                        return reached;
                    }
                },
            }
            reached = Some(label.cursor());
        }
        reached
    }

    /// Why a letter is not sent back, whatever is in the queue.
    fn objection(&self, letter: &DeadLetter, request: &RedriveRequest) -> Option<Refusal> {
        let (id, redrives) = (letter.id, letter.redrives);
        if letter.message.is_none() || letter.problem.is_some() {
            return Some(Refusal::Unreadable { id });
        }
        if let Some(limit) = request.max_redrives.filter(|limit| redrives >= *limit) {
            return Some(Refusal::TooOften {
                id,
                redrives,
                limit,
            });
        }
        let ours = matches!(&letter.origin, Origin::Queue(name) if name == self.queue_name());
        (!ours).then(|| Refusal::NoOrigin {
            id,
            origin: letter.origin.clone(),
        })
    }

    /// Refuses those whose message is in the queue for the first time, as it was enqueued again. What
    /// came back is noted by its message, and the script looks there itself.
    async fn look_for(&self, candidates: &mut [Candidate<'_>]) -> Result<(), Fault> {
        let going = candidates.iter().filter(|one| one.refusal.is_none());
        let mut args = vec![self.half_of_window()];
        args.extend(going.map(|one| entry_arg(one.label.id())));
        if args.len() == 1 {
            return Ok(());
        }
        let again = self.run(&scripts::SEEN, None, args).await?.list()?;
        let again = again.map(Reply::bytes);
        let again = again.collect::<Result<HashSet<_>, _>>()?;
        if again.is_empty() {
            return Ok(());
        }
        let there = self.find(again.clone(), Among::All).await?;
        let going = candidates.iter_mut().filter(|one| one.refusal.is_none());
        for one in going {
            let is_in = |ids: &HashSet<Bytes>| one.id.as_ref().is_some_and(|id| ids.contains(id));
            one.was_looked_for = is_in(&again);
            if is_in(&there) {
                one.refusal = Some(is_there_already(one.label));
            }
        }
        Ok(())
    }

    /// Sends those back that nothing is said against; an answer for each, up to the first that found
    /// the queue full.
    async fn send(
        &self,
        candidates: &[Candidate<'_>],
        request: &RedriveRequest,
    ) -> Result<Bytes, Fault> {
        let flag = |set: bool| Arg::Integer(i64::from(set));
        let what = request.filter.to_string();
        let mut args = audit::step(ActionKind::Redrive, &request.action, &what, request.now);
        args.extend([
            self.stays(),
            flag(request.attempts == Attempts::Keep),
            flag(request.dry_run),
            self.half_of_window(),
            self.high_water(),
        ]);
        for one in candidates.iter().filter(|one| one.refusal.is_none()) {
            args.push(entry_arg(one.label.id()));
            args.extend(one.label.lines_and_name()?);
            args.push(flag(one.was_looked_for));
        }
        let answers = self.run(&scripts::REDRIVE, Some(request.now), args);
        answers.await?.bytes()
    }
}

/// Those of the letters that are there, with their labels.
fn pairs<'a>(labels: &'a [Label], stored: &'a [Stored]) -> Vec<(&'a Label, &'a Stored)> {
    let mut rest = stored.iter().peekable();
    let pair = |label: &'a Label| {
        let stored = rest.next_if(|stored| stored.letter.id == label.id())?;
        Some((label, stored))
    };
    labels.iter().filter_map(pair).collect()
}

fn id(letter: &DeadLetter) -> Option<Bytes> {
    let id = |message: &Message| Bytes::copy_from_slice(message.id.as_bytes());
    letter.message.as_ref().map(id)
}

fn is_there_already(label: &Label) -> Refusal {
    Refusal::AlreadyThere {
        id: label.id(),
        origin: label.origin.clone(),
    }
}
