use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use outbox_core::error::Result;
use outbox_core::time::Timestamp;
use outbox_dlq::{
    Action, ActionId, ActionKind, AuditRecord, CountRequest, Counts, DeadLetter, DiscardReport,
    DiscardRequest, DlqEntry, Filter, ImportReport, LetterId, Listing, Move, Page, Quarantine,
    RedriveReport, RedriveRequest,
};

use super::label::Index;
use super::pick::entry_arg;
use super::{audit, scripts};
use crate::error::{At, Fault};
use crate::link::{Arg, Link, Reply, Script};
use crate::queue::RedisQueue;

/// The most that one call deletes, so that nobody waits long for the server.
const CHUNK: usize = 200;

/// The place of the stream of letters in the list of keys.
const QUARANTINE: usize = 7;

/// Places in the list of keys, behind those of the queue.
const LETTERS: usize = 11;
const ORDER: usize = LETTERS + 1;

/// The quarantine of a queue in Redis, as its group sees it; shared by cloning.
///
/// It has one origin, the queue: what a heap counted elsewhere is told as gone, so give a processor a
/// heap that counts for this queue alone. What is sent back goes to the end of the queue, those first
/// that stood there first. Letters whose message waits in the queue for the first time, because it was
/// enqueued again or they were read in from elsewhere, are recognised as long as the queue remembers
/// its ids. The audit keeps the last 10,000 actions.
///
/// ```no_run
/// # async fn example() -> outbox_core::Result<()> {
/// use outbox_dlq::{Filter, Page, Quarantine};
/// use outbox_redis::{RedisQuarantine, RedisQueue, RedisQueueConfig, RedisStore};
///
/// let store = RedisStore::open("redis://127.0.0.1").await?;
/// let queue = RedisQueue::open(&store, RedisQueueConfig::named("tasks")).await?;
/// let quarantine = RedisQuarantine::of(&queue);
/// let listing = quarantine.list(&Filter::default(), Page::first(20)).await?;
/// println!("{} of the dead letters", listing.letters.len());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisQuarantine {
    queue: RedisQueue,
    keys: Arc<[String]>,
    /// How far the last action has come that deletes, so that its next step does not begin anew.
    discarding: Arc<Mutex<Option<Discarding>>>,
}

/// An action that deletes what a filter means, and the line that it came to.
struct Discarding {
    action: ActionId,
    filter: Filter,
    after: Vec<u8>,
}

impl RedisQuarantine {
    /// The quarantine of a queue that is open.
    #[must_use]
    pub fn of(queue: &RedisQueue) -> Self {
        let config = queue.config();
        let keys = queue.store().keys(&config.name);
        let own = ["letters", "order", "names", "audit", "filled"];
        let own = own.map(|part| keys.part(&format!("{}:{part}", config.group)));
        let keys = queue.all_keys().map(str::to_owned);
        Self {
            queue: queue.clone(),
            keys: keys.into_iter().chain(own).collect(),
            discarding: Arc::default(),
        }
    }

    pub(super) fn queue_name(&self) -> &str {
        &self.queue.config().name
    }

    /// Whether entries stay for other groups, as scripts are told.
    pub(super) fn stays(&self) -> Arg {
        Arg::Integer(i64::from(self.queue.config().fan_out))
    }

    /// The most entries of the queue.
    pub(super) fn high_water(&self) -> Arg {
        let high_water = self.queue.config().high_water;
        Arg::Integer(i64::try_from(high_water).unwrap_or(i64::MAX))
    }

    /// Half of the window for which ids are remembered, in microseconds.
    pub(super) fn half_of_window(&self) -> Arg {
        let half = self.queue.config().dedup_window / 2;
        Arg::Integer(i64::try_from(half.as_micros()).unwrap_or(i64::MAX))
    }

    pub(super) fn link(&self) -> Result<&Link, Fault> {
        self.queue.store().link()
    }

    /// The stream of the letters themselves.
    pub(super) fn letters_key(&self) -> &str {
        &self.keys[QUARANTINE]
    }

    pub(super) fn index_key(&self, index: Index) -> &str {
        &self.keys[match index {
            Index::Letters => LETTERS,
            Index::Order => ORDER,
        }]
    }

    /// Runs a script on all keys, with the group, the moment and `args`.
    pub(super) async fn run(
        &self,
        script: &'static Script,
        now: Option<Timestamp>,
        args: Vec<Arg>,
    ) -> Result<Reply, Fault> {
        let config = self.queue.config();
        let now = now.unwrap_or_else(|| config.clock.now());
        let mut all = Vec::with_capacity(2 + args.len());
        all.push(Arg::from(config.group.as_str()));
        all.push(self.queue.store().moment(now));
        all.extend(args);
        let keys: Vec<_> = self.keys.iter().map(String::as_str).collect();
        self.link()?.run(script, &keys, all).await
    }

    async fn delete(&self, request: &DiscardRequest) -> Result<DiscardReport, Fault> {
        self.prepare(&request.filter).await?;
        let after = self.came_to(request);
        let max = request.max.min(CHUNK);
        let picked = self
            .pick(&request.filter, Index::Letters, after, max)
            .await?;
        let what = request.filter.to_string();
        let mut args = audit::step(ActionKind::Discard, &request.action, &what, request.now);
        for label in &picked.labels {
            args.push(entry_arg(label.id()));
            args.extend(label.lines_and_name()?);
        }
        let deleted = self.run(&scripts::DISCARD, Some(request.now), args).await?;
        let last = picked.labels.last();
        *self.discarding() = last.map(|last| Discarding {
            action: request.action.id,
            filter: request.filter.clone(),
            after: last.key(Index::Letters),
        });
        Ok(DiscardReport {
            discarded: deleted.number()?.unsigned_abs(),
            more: picked.more,
        })
    }

    /// Behind which line an action goes on; what is before it is not meant, or gone.
    fn came_to(&self, request: &DiscardRequest) -> Option<Vec<u8>> {
        let last = self.discarding();
        let last = last.as_ref()?;
        let goes_on = last.action == request.action.id && last.filter == request.filter;
        goes_on.then(|| last.after.clone())
    }

    fn discarding(&self) -> MutexGuard<'_, Option<Discarding>> {
        let discarding = self.discarding.lock();
        discarding.unwrap_or_else(PoisonError::into_inner)
    }

    fn tell<T>(&self, operation: &'static str, result: Result<T, Fault>) -> Result<T> {
        result.at(operation, self.queue.store().address())
    }
}

/// A batch moves, sends back and deletes no more than 200 messages in one script, and in each call of
/// [`Quarantine::redrive`] and [`Quarantine::discard`].
#[async_trait]
impl Quarantine for RedisQuarantine {
    async fn quarantine(&self, entries: &[DlqEntry], now: Timestamp) -> Result<Vec<Move>> {
        self.tell("quarantine", self.move_out(entries, now).await)
    }

    async fn list(&self, filter: &Filter, page: Page) -> Result<Listing> {
        self.tell("list dead letters", self.page(filter, page).await)
    }

    async fn last(&self) -> Result<Option<LetterId>> {
        self.tell("find the last dead letter", self.newest().await)
    }

    async fn redrive(&self, request: &RedriveRequest) -> Result<RedriveReport> {
        self.tell("redrive", self.send_back(request).await)
    }

    async fn discard(&self, request: &DiscardRequest) -> Result<DiscardReport> {
        self.tell("discard dead letters", self.delete(request).await)
    }

    async fn count(&self, request: &CountRequest) -> Result<Counts> {
        self.tell("count dead letters", self.counted(request).await)
    }

    async fn import(
        &self,
        letters: &[DeadLetter],
        action: &Action,
        now: Timestamp,
    ) -> Result<ImportReport> {
        let added = self.add(letters, (action, now)).await;
        self.tell("import dead letters", added)
    }

    async fn audit(&self, after: u64, max: usize) -> Result<Vec<AuditRecord>> {
        self.tell("read the audit", self.records(after, max).await)
    }
}
