//! Finds the dead letters that are meant, a bounded number of labels and bytes at a time.

use bytes::Bytes;
use outbox_core::error::OutboxError;
use outbox_dlq::{Filter, LetterId, Listing, Page};

use super::label::{Index, Label, letter_key};
use super::letter::{self, Stored};
use super::number::{entry_id, letter_id};
use super::port::RedisQuarantine;
use super::scripts;
use crate::error::Fault;
use crate::link::{Arg, Reply};
use crate::queue::entry::Entry;

/// How many letters are made known to the indexes at once.
const FILL: i64 = 200;

/// How many letters are looked for at once whether they are still there.
const SWEEP: usize = 200;

/// The most labels that are read at once.
const LABELS: usize = 1_000;

/// Labels that were found, and whether there are more behind them.
pub(super) struct Picked {
    pub(super) labels: Vec<Label>,
    pub(super) more: bool,
}

/// Refuses a filter with too many ids.
fn check(filter: &Filter) -> Result<(), Fault> {
    if filter.ids.len() <= Filter::MOST_IDS {
        return Ok(());
    }
    Err(Fault::Told(OutboxError::Limit {
        what: "ids in a filter".to_owned(),
        actual: filter.ids.len() as u64,
        limit: Filter::MOST_IDS as u64,
    }))
}

impl RedisQuarantine {
    /// Makes known to the indexes what came to rest since that was done last; how many letters they
    /// know that are not there any more.
    pub(super) async fn fill(&self) -> Result<i64, Fault> {
        loop {
            let reply = self.run(&scripts::UNFILLED, None, vec![Arg::Integer(FILL)]);
            let mut parts = reply.await?.list()?;
            let mut next = || parts.next().ok_or_else(too_short);
            let filled = next()?.bytes()?;
            let entries = Entry::list(next()?)?;
            let gone = next()?.number()?;
            let Some(last) = entries.last() else {
                return Ok(gone);
            };
            let mut args = vec![Arg::Bytes(filled), Arg::Bytes(last.text.clone())];
            for stored in self.stored(&entries) {
                args.extend(Label::of(&stored).lines_and_name()?);
            }
            self.run(&scripts::FILL, None, args).await?;
        }
    }

    /// Has the indexes forget so many letters that are not there any more, as somebody removed them by
    /// hand.
    async fn sweep(&self, mut gone: i64) -> Result<(), Fault> {
        let mut after = None;
        while gone > 0 {
            let lines = self.lines(Index::Letters, after.as_deref(), SWEEP).await?;
            let labels = lines.iter().map(|line| Label::read(line, Index::Letters));
            let labels = labels.collect::<Result<Vec<_>, _>>()?;
            let mut args = Vec::new();
            for label in &labels {
                args.push(entry_arg(label.id()));
                args.extend(label.lines_and_name()?);
            }
            let reply = self.run(&scripts::SWEEP, None, args);
            let mut parts = reply.await?.list()?;
            let mut next = || parts.next().ok_or_else(too_short);
            let came_to = usize::try_from(next()?.number()?).unwrap_or(0);
            gone -= next()?.number()?;
            let Some(last) = labels.iter().take(came_to).next_back() else {
                return Ok(());
            };
            after = Some(last.key(Index::Letters));
        }
        Ok(())
    }

    /// Makes sure that those that `filter` asks for can be found, and no others.
    pub(super) async fn prepare(&self, filter: &Filter) -> Result<(), Fault> {
        check(filter)?;
        let gone = self.fill().await?;
        self.sweep(gone).await
    }

    /// The number of the newest letter.
    pub(super) async fn newest(&self) -> Result<Option<LetterId>, Fault> {
        let key = self.letters_key();
        let range = ["+", "-", "COUNT", "1"].map(Arg::from_static_str);
        let args = [Arg::from(key)].into_iter().chain(range).collect();
        let reply = self.link()?.command("XREVRANGE", Some(key), args).await?;
        let newest = Entry::list(reply)?;
        Ok(newest.first().and_then(|entry| letter_id(entry.id)))
    }

    /// A page of `filter`, in the order of numbers.
    pub(super) async fn page(&self, filter: &Filter, page: Page) -> Result<Listing, Fault> {
        self.prepare(filter).await?;
        let after = page.after.map(letter_key);
        let max = page.max.min(LABELS);
        let picked = self.pick(filter, Index::Letters, after, max).await?;
        let (came_to, stored) = self.read(&picked.labels).await?;
        let last = came_to.checked_sub(1).map(|last| picked.labels[last].id());
        let more = picked.more || came_to < picked.labels.len();
        Ok(Listing {
            letters: stored.into_iter().map(|stored| stored.letter).collect(),
            next: last.filter(|_| more),
        })
    }

    /// The next labels of `filter`, in the order of `index`, behind the line that begins with `after`.
    pub(super) async fn pick(
        &self,
        filter: &Filter,
        index: Index,
        after: Option<Vec<u8>>,
        max: usize,
    ) -> Result<Picked, Fault> {
        let mut labels = match filter.ids.is_empty() {
            true => self.walk(filter, index, after, max).await?,
            false => self.look_up(filter, index, after).await?,
        };
        let more = labels.len() > max;
        labels.truncate(max);
        Ok(Picked { labels, more })
    }

    /// Goes through `index` until one more than `max` are found.
    async fn walk(
        &self,
        filter: &Filter,
        index: Index,
        mut after: Option<Vec<u8>>,
        max: usize,
    ) -> Result<Vec<Label>, Fault> {
        let (mut found, enough) = (Vec::new(), max.saturating_add(1));
        // Most often one is meant after the other; where they are far between, steps get longer.
        let mut step = enough.min(LABELS);
        loop {
            let lines = self.lines(index, after.as_deref(), step).await?;
            let last = lines.len() < step;
            for line in lines {
                let label = Label::read(&line, index)?;
                after = Some(label.key(index));
                if label.is_meant(filter) {
                    found.push(label);
                }
                if found.len() == enough {
                    return Ok(found);
                }
            }
            if last {
                return Ok(found);
            }
            step = LABELS;
        }
    }

    async fn lines(
        &self,
        index: Index,
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<Bytes>, Fault> {
        let from = match after {
            Some(key) => Arg::Bytes([b"(", key, b"\xff"].concat().into()),
            None => Arg::from_static_str("-"),
        };
        let key = self.index_key(index);
        let most = Arg::Integer(i64::try_from(most).unwrap_or(i64::MAX));
        let [to, limit] = ["+", "LIMIT"].map(Arg::from_static_str);
        let args = vec![Arg::from(key), from, to, limit, Arg::Integer(0), most];
        let reply = self.link()?.command("ZRANGEBYLEX", Some(key), args).await?;
        reply.list()?.map(Reply::bytes).collect()
    }

    /// Those of the letters that are named by their numbers that are meant.
    async fn look_up(
        &self,
        filter: &Filter,
        index: Index,
        after: Option<Vec<u8>>,
    ) -> Result<Vec<Label>, Fault> {
        let mut ids = filter.ids.clone();
        ids.sort();
        ids.dedup();
        let keys = ids.into_iter().map(|id| Arg::Bytes(letter_key(id).into()));
        let reply = self.run(&scripts::FIND_LINES, None, keys.collect()).await?;
        let mut labels = Vec::new();
        for line in reply.list()? {
            let label = Label::read(&line.bytes()?, Index::Letters)?;
            let behind = after.as_ref().is_none_or(|after| label.key(index) > *after);
            if behind && label.is_meant(filter) {
                labels.push(label);
            }
        }
        labels.sort_by_key(|label| label.key(index));
        Ok(labels)
    }

    /// Reads the letters of labels, as far as their bytes allow: how many it came to, and those of
    /// them that are there.
    pub(super) async fn read(&self, labels: &[Label]) -> Result<(usize, Vec<Stored>), Fault> {
        if labels.is_empty() {
            return Ok((0, Vec::new()));
        }
        let ids = labels.iter().map(|label| entry_arg(label.id())).collect();
        let mut parts = self.run(&scripts::READ, None, ids).await?.list()?;
        let came_to = parts.next().ok_or_else(too_short)?.number()?;
        let entries = parts.next().map_or(Ok(Vec::new()), Entry::list)?;
        let came_to = usize::try_from(came_to).unwrap_or(0).min(labels.len());
        Ok((came_to, self.stored(&entries).collect()))
    }

    fn stored(&self, entries: &[Entry]) -> impl Iterator<Item = Stored> {
        let queue = self.queue_name();
        entries
            .iter()
            .filter_map(move |entry| letter::read(entry, queue))
    }
}

/// The entry of a letter, as scripts are told.
pub(super) fn entry_arg(id: LetterId) -> Arg {
    Arg::from(entry_id(id).to_string())
}

pub(super) fn too_short() -> Fault {
    Fault::Reply {
        wanted: "a longer list",
        found: "a shorter one".to_owned(),
    }
}
