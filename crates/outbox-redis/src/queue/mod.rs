//! The queue on a stream and its consumer groups.
//!
//! An entry is read by `XREADGROUP` and then leased by a script, which notes in a hash who holds it,
//! under which token and until when; the server's own list of pending entries tells what was read
//! and not leased, because a worker died in between. Who finds nothing waits for the stream to grow
//! by `XREAD`, on a connection of its own: a wait that is broken off takes nothing with it.

mod config;
mod dequeue;
mod enqueue;
pub(crate) mod entry;
mod extend;
mod groups;
mod health;
#[cfg(feature = "dlq")]
mod letters;
mod lull;
mod parts;
mod port;
mod recover;
mod scripts;
mod settle;
mod stats;
mod waiting;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub use config::RedisQueueConfig;
pub use groups::{GroupRemoval, RedisGroup};
use outbox_core::delivery::Quarantined;
use outbox_core::error::Result;
use outbox_core::id::WorkerId;
use outbox_core::signal::Wake;
use outbox_core::time::Timestamp;
use tokio::time::Instant;

use self::entry::Entry;
use self::lull::Lulls;
use self::parts::Parts;
use crate::error::{At, Fault};
use crate::link::{Arg, Link, Reply, Script};
use crate::store::RedisStore;

/// A queue in Redis, read by one consumer group; shared by cloning.
///
/// An entry that was delayed, or failed, comes back behind those that were enqueued meanwhile. What
/// is due, and whose lease has ended, is decided by the server's clock. A server that lost what it
/// had acknowledged is told in the log and by [`RedisQueue::losses`], and the queue goes on.
///
/// ```no_run
/// # async fn example() -> outbox_core::Result<()> {
/// use outbox_redis::{RedisQueue, RedisQueueConfig, RedisStore};
///
/// let store = RedisStore::open("redis://127.0.0.1").await?;
/// let queue = RedisQueue::open(&store, RedisQueueConfig::named("orders")).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisQueue(Arc<Shared>);

struct Shared {
    store: RedisStore,
    config: RedisQueueConfig,
    parts: Parts,
    room: Wake,
    /// Whether a message was refused for want of room, and nothing has left since.
    full: AtomicBool,
    /// Whether the last read found as much as was asked for.
    plenty: AtomicBool,
    losses: AtomicU64,
    /// What those know who wait again and again.
    lulls: Lulls,
    /// When consumers of workers that are gone were looked for last.
    forgot: Mutex<Option<Instant>>,
    /// When it was noted last that the group is there.
    noted: Mutex<Option<Instant>>,
    /// How many entries were settled since what all groups have settled was removed.
    untrimmed: AtomicU64,
}

impl RedisQueue {
    /// Opens the queue, and makes its stream and its group where they are missing; a new group
    /// begins with what is in the stream.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Config`] with every setting that cannot be used;
    /// [`outbox_core::OutboxError::Backend`] where the server fails, or a key is of another type.
    ///
    /// # Cancel safety
    /// A dropped call may leave the stream and its group, empty.
    pub async fn open(store: &RedisStore, config: RedisQueueConfig) -> Result<Self> {
        config.check()?;
        let keys = store.keys(&config.name);
        let queue = Self(Arc::new(Shared {
            store: store.clone(),
            parts: Parts::new(&keys, &config.group),
            room: Wake::new(),
            full: AtomicBool::new(false),
            plenty: AtomicBool::new(false),
            losses: AtomicU64::new(0),
            lulls: Lulls::default(),
            forgot: Mutex::default(),
            noted: Mutex::default(),
            untrimmed: AtomicU64::new(0),
            config,
        }));
        let made = queue.make_group(false).await;
        made.at("open queue", store.address())?;
        Ok(queue)
    }

    /// How often, since it was opened, the server was found to have lost what it had acknowledged:
    /// the stream, its group, or entries that were in flight. Each is told in the log, too.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.0.losses.load(Ordering::Relaxed)
    }

    /// What is in quarantine, oldest first, at most `limit` of it.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the server fails.
    ///
    /// # Cancel safety
    /// Changes nothing.
    pub async fn quarantined(&self, limit: usize) -> Result<Vec<Quarantined>> {
        let read = async {
            let key = self.0.parts.quarantine();
            let range = ["-", "+", "COUNT"].map(Arg::from_static_str);
            let mut args = vec![Arg::from(key)];
            args.extend(range);
            args.push(number(limit));
            let reply = self.link()?.command("XRANGE", Some(key), args).await?;
            let entries = Entry::list(reply)?;
            Ok(entries.iter().map(Entry::quarantined).collect())
        };
        self.tell("quarantined", read.await)
    }

    /// Removes consumers of workers that are gone from the server's lists: those that hold nothing
    /// and have read nothing for `idle`; how many. Working does so by itself, at most once a minute, for
    /// those that are idle for 10 minutes.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the server fails.
    ///
    /// # Cancel safety
    /// Safe: a live worker's consumer comes back with its next read.
    pub async fn forget_consumers(&self, idle: Duration) -> Result<u64> {
        let forget = async {
            let args = vec![millis(idle)];
            let reply = self.run_repairing(&scripts::FORGET, None, args).await?;
            stats::count_in(reply)
        };
        self.tell("forget consumers", forget.await)
    }

    /// Removes entries that every group has settled, where several read the queue; how many. A
    /// queue of one group has none, and settling does so by itself now and then.
    ///
    /// # Errors
    /// [`outbox_core::OutboxError::Backend`] where the server fails.
    ///
    /// # Cancel safety
    /// Safe: it may be done or not.
    pub async fn trim(&self) -> Result<u64> {
        let trim = async {
            let reply = self.run_repairing(&scripts::TRIM, None, Vec::new()).await?;
            stats::count_in(reply)
        };
        self.tell("trim", trim.await)
    }

    fn link(&self) -> Result<&Link, Fault> {
        self.0.store.link()
    }

    /// Runs a script on the queue's keys, with the group, the moment and `args`.
    async fn run(
        &self,
        script: &'static Script,
        now: Option<Timestamp>,
        args: Vec<Arg>,
    ) -> Result<Reply, Fault> {
        let mut all = Vec::with_capacity(2 + args.len());
        all.push(Arg::from(self.0.config.group.as_str()));
        all.push(
            self.0
                .store
                .moment(now.unwrap_or_else(|| self.0.config.clock.now())),
        );
        all.extend(args);
        self.link()?.run(script, &self.0.parts.all(), all).await
    }

    /// As [`RedisQueue::run`], once more where the group is gone.
    async fn run_repairing(
        &self,
        script: &'static Script,
        now: Option<Timestamp>,
        args: Vec<Arg>,
    ) -> Result<Reply, Fault> {
        match self.run(script, now, args.clone()).await {
            Err(fault) if lost(&fault) => {
                self.repair(&fault).await?;
                self.run(script, now, args).await
            }
            other => other,
        }
    }

    /// Whether entries stay for other groups, as scripts are told.
    fn stays(&self) -> Arg {
        number(usize::from(self.0.config.fan_out))
    }

    /// Makes the group where it is missing, and whether it was; `again` where it was there before.
    async fn make_group(&self, again: bool) -> Result<bool, Fault> {
        let half = micros(self.0.config.dedup_window / 2);
        let args = vec![half, number(usize::from(again))];
        let made = self.run(&scripts::REPAIR, None, args).await?;
        Ok(made.number()? == 1)
    }

    /// Makes the group again after the server lost it, and tells that it did.
    async fn repair(&self, fault: &Fault) -> Result<(), Fault> {
        if self.make_group(true).await? {
            self.note_loss(&format!("the stream or its group is gone: {fault}"));
        }
        Ok(())
    }

    /// Tells an operator that the server does not have what it had acknowledged.
    fn note_loss(&self, what: &str) {
        self.0.losses.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            queue = self.0.config.name,
            server = self.0.store.address(),
            what,
            "Redis lost data; what was lost is delivered again only if its outbox sends it again"
        );
    }

    fn tell<T>(&self, operation: &'static str, result: Result<T, Fault>) -> Result<T> {
        result.at(operation, self.0.store.address())
    }
}

/// Whether something was last done so long ago, which counts as done now.
fn is_due(last: &Mutex<Option<Instant>>, every: Duration) -> bool {
    let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
    let due = last.is_none_or(|last| last.elapsed() >= every);
    if due {
        *last = Some(Instant::now());
    }
    due
}

/// Whether a fault says that the stream or its group is gone.
fn lost(fault: &Fault) -> bool {
    fault.lost_group() || matches!(fault, Fault::Server(answer) if answer.0.contains("no such key"))
}

/// The consumer of a worker, as the server's lists show it.
fn consumer(owner: WorkerId) -> Arg {
    Arg::from(owner.to_string())
}

/// The bytes that begin what stands in the record of everything a worker holds.
fn owner_bytes(owner: WorkerId) -> Arg {
    Arg::Bytes(bytes::Bytes::copy_from_slice(owner.as_bytes()))
}

fn number(value: usize) -> Arg {
    Arg::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A duration in microseconds, as scripts have them.
fn micros(time: Duration) -> Arg {
    Arg::Integer(i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
}

/// A duration in milliseconds, as the server has them; at least 1.
fn millis(time: Duration) -> Arg {
    let millis = time.as_nanos().div_ceil(1_000_000).max(1);
    Arg::Integer(i64::try_from(millis).unwrap_or(i64::MAX))
}
