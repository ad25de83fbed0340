//! The groups of a fanned-out queue: one that nobody reads any more keeps every entry, so it is told,
//! and an operator removes it.

use std::time::Duration;

use outbox_core::error::Result;

use super::parts::Parts;
use super::stats::count_in;
use super::{RedisQueue, is_due, micros};
use crate::error::Fault;
use crate::link::{Arg, Reply, Script};

/// How often a group notes that it is there.
const NOTE_EVERY: Duration = Duration::from_secs(60);

static LIST: Script = Script::new(concat!(
    "#!lua flags=allow-oom\n",
    include_str!("../scripts/moment.lua"),
    include_str!("../scripts/registry/list.lua")
));
static REMOVE: Script = Script::new(concat!(
    "#!lua flags=allow-oom\n",
    include_str!("../scripts/moment.lua"),
    include_str!("../scripts/registry/remove.lua")
));

/// A consumer group of a queue, as [`RedisQueue::groups`] tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisGroup {
    /// Its name.
    pub name: String,
    /// How long ago one of its workers asked for deliveries, within a minute; for one that never
    /// did, how long ago it was first met.
    pub silent_for: Duration,
    /// How many entries it has read and not settled.
    pub pending: u64,
    /// How many entries it has not read; `None` where the server cannot tell.
    pub unread: Option<u64>,
}

/// What came of [`RedisQueue::remove_group`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupRemoval {
    /// It is gone.
    Removed,
    /// There is no group of that name.
    Absent,
    /// It is there: one of its workers was seen too lately.
    Seen,
    /// It is there: its workers hold deliveries, and may be too busy to ask for more.
    Busy {
        /// How many deliveries have a lease that has not ended.
        held: u64,
    },
}

impl RedisQueue {
    /// The groups that read the queue, and for how long nobody has seen each of them.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the server fails.
    ///
    /// # Cancel safety
    /// Safe: it may have noted groups that it met for the first time.
    pub async fn groups(&self) -> Result<Vec<RedisGroup>> {
        self.tell("groups", self.list_groups("").await)
    }

    /// Removes the group `name` if none of its workers was seen for `silent_for` or holds anything,
    /// with what is noted for it and what it has delayed, so that it keeps nothing any more. What it
    /// has not handled, it never will; its quarantine stays, and the last token that it gave out, so
    /// that a group of its name gives out none of them again. Nothing else ever removes a group.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the server fails.
    ///
    /// # Cancel safety
    /// Safe: it is done or not; repeat it.
    pub async fn remove_group(&self, name: &str, silent_for: Duration) -> Result<GroupRemoval> {
        let remove = async {
            let store = &self.0.store;
            let parts = Parts::new(&store.keys(&self.0.config.name), name);
            let mut keys = vec![parts.stream(), parts.groups()];
            keys.extend(parts.of_group());
            let args = vec![self.moment(), Arg::from(name), micros(silent_for)];
            removal(self.link()?.run(&REMOVE, &keys, args).await?)
        };
        let removal = self.tell("remove group", remove.await)?;
        if removal == GroupRemoval::Removed && self.0.config.fan_out {
            self.trim().await?;
        }
        Ok(removal)
    }

    /// Notes now and then that this group is there, where others read the queue, too.
    pub(super) async fn note_group(&self) -> Result<(), Fault> {
        if self.0.config.fan_out && is_due(&self.0.noted, NOTE_EVERY) {
            self.list_groups(&self.0.config.group).await?;
        }
        Ok(())
    }

    /// What an operator should know of groups that nobody has seen for long.
    pub(super) async fn silent_groups(&self) -> Result<Vec<String>> {
        if !self.0.config.fan_out {
            return Ok(Vec::new());
        }
        let mut groups = self.groups().await?;
        groups.retain(|group| group.silent_for >= self.0.config.group_silence);
        Ok(groups.iter().map(told).collect())
    }

    async fn list_groups(&self, own: &str) -> Result<Vec<RedisGroup>, Fault> {
        let parts = &self.0.parts;
        let args = vec![self.moment(), Arg::from(own)];
        let keys = [parts.stream(), parts.groups()];
        let reply = self.link()?.run(&LIST, &keys, args).await?;
        reply.list()?.map(group).collect()
    }

    fn moment(&self) -> Arg {
        self.0.store.moment(self.0.config.clock.now())
    }
}

fn removal(reply: Reply) -> Result<GroupRemoval, Fault> {
    let mut parts = reply.list()?;
    let mut next = || parts.next().ok_or_else(super::dequeue::too_short);
    Ok(match next()?.text()?.as_str() {
        "removed" => GroupRemoval::Removed,
        "seen" => GroupRemoval::Seen,
        "busy" => GroupRemoval::Busy {
            held: count_in(next()?)?,
        },
        _ => GroupRemoval::Absent,
    })
}

fn told(group: &RedisGroup) -> String {
    let (name, silent) = (&group.name, group.silent_for.as_secs());
    format!("group {name} was not seen for {silent} s, and what it has not settled is kept")
}

fn group(reply: Reply) -> Result<RedisGroup, Fault> {
    let mut parts = reply.list()?;
    let mut next = || parts.next().ok_or_else(super::dequeue::too_short);
    Ok(RedisGroup {
        name: next()?.text()?,
        silent_for: Duration::from_micros(count_in(next()?)?),
        pending: count_in(next()?)?,
        unread: u64::try_from(next()?.number()?).ok(),
    })
}
