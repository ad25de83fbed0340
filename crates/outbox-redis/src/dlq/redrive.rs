use std::collections::HashSet;

use bytes::Bytes;
use outbox_core::message::Message;
use outbox_dlq::{
    ActionKind, Attempts, DeadLetter, Origin, RedriveReport, RedriveRequest, Refusal,
};

use super::label::{Index, Label, order_key};
use super::letter::Stored;
use super::move_out::Among;
use super::pick::{entry_arg, too_short};
use super::port::RedisQuarantine;
use super::{audit, scripts};
use crate::error::Fault;
use crate::link::{Arg, Reply};

/// The most that one call sends back, so that nobody waits long for the server.
const CHUNK: usize = 200;

impl RedisQuarantine {
    /// Sends a batch back, in one script.
    pub(super) async fn send_back(&self, request: &RedriveRequest) -> Result<RedriveReport, Fault> {
        self.prepare(&request.filter).await?;
        let after = request.after.as_ref().map(order_key);
        let max = request.max.min(CHUNK);
        let picked = self.pick(&request.filter, Index::Order, after, max).await?;
        let (came_to, stored) = self.read(&picked.labels).await?;
        let mut report = RedriveReport::default();
        let mut going = Vec::with_capacity(came_to);
        for (label, stored) in pairs(&picked.labels[..came_to], &stored) {
            match self.objection(&stored.letter, request) {
                Some(refusal) => report.refused.push(refusal),
                None => going.push((label, stored)),
            }
        }
        let there = self.already_there(&going).await?;
        going.retain(|(_, stored)| {
            let is_there = id(&stored.letter).is_some_and(|id| there.contains(&id));
            if is_there {
                report.refused.push(is_there_already(&stored.letter));
            }
            !is_there
        });
        self.send(&going, request, &mut report).await?;
        let last = came_to
            .checked_sub(1)
            .map(|last| picked.labels[last].cursor());
        let more = picked.more || came_to < picked.labels.len();
        report.next = last.filter(|_| more);
        Ok(report)
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

    /// The messages of letters from elsewhere that are in the queue for the first time. Those of others
    /// left it when they came to rest.
    async fn already_there(&self, letters: &[(&Label, &Stored)]) -> Result<HashSet<Bytes>, Fault> {
        let imported = letters.iter().filter(|(label, _)| label.imported);
        let ids = imported.filter_map(|(_, stored)| id(&stored.letter));
        let mut args = vec![self.half_of_window()];
        args.extend(ids.map(Arg::Bytes));
        if args.len() == 1 {
            return Ok(HashSet::new());
        }
        let seen = self.run(&scripts::SEEN, None, args).await?.list()?;
        let seen: HashSet<_> = seen
            .into_iter()
            .map(Reply::bytes)
            .collect::<Result<_, _>>()?;
        match seen.is_empty() {
            true => Ok(seen),
            false => self.find(seen, Among::All).await,
        }
    }

    async fn send(
        &self,
        letters: &[(&Label, &Stored)],
        request: &RedriveRequest,
        report: &mut RedriveReport,
    ) -> Result<(), Fault> {
        let flag = |set: bool| Arg::Integer(i64::from(set));
        let what = request.filter.to_string();
        let mut args = audit::step(ActionKind::Redrive, &request.action, &what, request.now);
        args.extend([
            self.stays(),
            flag(request.attempts == Attempts::Keep),
            flag(request.dry_run),
            self.half_of_window(),
        ]);
        for (label, _) in letters {
            args.push(entry_arg(label.id()));
            args.extend(label.lines_and_name()?);
        }
        let answers = self.run(&scripts::REDRIVE, Some(request.now), args);
        let answers = answers.await?.bytes()?;
        if answers.len() != letters.len() {
            return Err(too_short());
        }
        for ((label, stored), answer) in letters.iter().zip(&answers) {
            match answer {
                b'm' => report.redriven.push(label.id()),
                b't' => report.refused.push(is_there_already(&stored.letter)),
                _ => {}
            }
        }
        Ok(())
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

fn is_there_already(letter: &DeadLetter) -> Refusal {
    Refusal::AlreadyThere {
        id: letter.id,
        origin: letter.origin.clone(),
    }
}
