//! Moves messages that fail too often out of the queue into its quarantine.

use std::collections::HashSet;

use bytes::Bytes;
use outbox_core::time::Timestamp;
use outbox_dlq::{DlqEntry, Move, Origin};

use super::pick::too_short;
use super::port::RedisQuarantine;
use super::scripts;
use crate::error::Fault;
use crate::link::{Arg, Reply};

/// The most messages that one script moves, so that nobody waits long for the server.
const CHUNK: usize = 200;

/// How many entries one script goes through in search of messages.
const WALK: i64 = 1_000;

/// Among which entries a message is looked for.
#[derive(Clone, Copy)]
pub(super) enum Among {
    /// Those that the group has read.
    Held,
    /// All that the group has not settled.
    All,
}

impl RedisQuarantine {
    /// Moves the messages of `entries`, one answer each.
    pub(super) async fn move_out(
        &self,
        entries: &[DlqEntry],
        now: Timestamp,
    ) -> Result<Vec<Move>, Fault> {
        let mut moves = vec![Move::Gone; entries.len()];
        let ours = Origin::Queue(self.queue_name().to_owned());
        let ours = |(_, entry): &(usize, &DlqEntry)| entry.subject.origin == ours;
        let places: Vec<_> = entries.iter().enumerate().filter(ours).collect();
        for chunk in places.chunks(CHUNK) {
            for (place, told) in self.move_chunk(chunk, now).await? {
                moves[place] = told;
            }
        }
        Ok(moves)
    }

    async fn move_chunk(
        &self,
        chunk: &[(usize, &DlqEntry)],
        now: Timestamp,
    ) -> Result<Vec<(usize, Move)>, Fault> {
        let (mut told, unknown) = self.try_to_move(chunk, now).await?;
        if unknown.is_empty() {
            return Ok(told);
        }
        // What was never given back is not noted anywhere: whoever has it now may be at it.
        let ids = unknown.iter().map(|(_, entry)| id(entry)).collect();
        let held = self.find(ids, Among::Held).await?;
        let (held, rest): (Vec<_>, Vec<_>) = unknown
            .into_iter()
            .partition(|(_, entry)| held.contains(&id(entry)));
        told.extend(held.into_iter().map(|(place, _)| (place, Move::InFlight)));
        // It may have been given back meanwhile.
        let (again, gone) = self.try_to_move(&rest, now).await?;
        told.extend(again);
        told.extend(gone.into_iter().map(|(place, _)| (place, Move::Gone)));
        Ok(told)
    }

    /// Moves what has come back; the others are left.
    async fn try_to_move<'e>(
        &self,
        entries: &[(usize, &'e DlqEntry)],
        now: Timestamp,
    ) -> Result<(Vec<(usize, Move)>, Vec<(usize, &'e DlqEntry)>), Fault> {
        let (mut told, mut unknown, mut rest) = (Vec::new(), Vec::new(), entries);
        while !rest.is_empty() {
            let mut args = vec![self.stays()];
            for (_, entry) in rest {
                args.push(Arg::Bytes(id(entry)));
                args.push(Arg::Integer(entry.first_failed_at.as_micros()));
                args.push(Arg::Integer(entry.last_failed_at.as_micros()));
                args.push(Arg::from(entry.kind.as_str()));
                args.push(Arg::from(entry.error.as_str()));
            }
            let answers = self.run(&scripts::MOVE, Some(now), args).await?.bytes()?;
            if answers.is_empty() || answers.len() > rest.len() {
                return Err(too_short());
            }
            let (done, left) = rest.split_at(answers.len());
            for ((place, entry), answer) in done.iter().zip(&answers) {
                match answer {
                    b'm' => told.push((*place, Move::Moved)),
                    b'f' => told.push((*place, Move::InFlight)),
                    _ => unknown.push((*place, *entry)),
                }
            }
            rest = left;
        }
        Ok((told, unknown))
    }

    /// Those of `ids` that are in the queue for the first time.
    pub(super) async fn find(
        &self,
        ids: HashSet<Bytes>,
        among: Among,
    ) -> Result<HashSet<Bytes>, Fault> {
        let mut found = HashSet::new();
        let mut from = Arg::from_static_str("-");
        loop {
            let among = match among {
                Among::Held => "held",
                Among::All => "all",
            };
            let mut args = vec![from, Arg::from_static_str(among), Arg::Integer(WALK)];
            args.extend(ids.iter().map(|id| Arg::Bytes(id.clone())));
            let reply = self.run(&scripts::FIND, None, args).await?;
            let mut parts = reply.list()?;
            let next = parts.next().ok_or_else(too_short)?.bytes()?;
            for id in parts.next().unwrap_or(Reply::NOTHING).list()? {
                found.insert(id.bytes()?);
            }
            if next.is_empty() || found.len() == ids.len() {
                return Ok(found);
            }
            from = Arg::Bytes(next);
        }
    }
}

/// The id of what an entry of the heap is about.
fn id(entry: &DlqEntry) -> Bytes {
    Bytes::copy_from_slice(entry.subject.id.as_bytes())
}
