use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fred::types::Builder;
use outbox_core::error::{OutboxError, Result};
use outbox_core::signal::Shutdown;
use outbox_core::time::Timestamp;

use crate::error::{At, Fault};
use crate::keys::Keys;
use crate::link::{Arg, Link};
use crate::options::RedisOptions;
use crate::probe::probe;

/// One Redis server, cluster or Sentinel group, opened: what all ports of this crate stand on,
/// shared by cloning.
///
/// Commands of all clones share one connection, those that wait for something on the server have
/// connections of their own. A connection that is lost is made anew, with growing pauses and without
/// end; what was on its way then fails as transient, and is never sent twice by itself.
///
/// ```no_run
/// # async fn example() -> outbox_core::Result<()> {
/// use outbox_redis::{RedisOptions, RedisStore};
///
/// let store = RedisStore::open_with(RedisOptions::new("redis://127.0.0.1").prefix("shop")).await?;
/// store.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    options: RedisOptions,
    builder: Builder,
    place: String,
    link: Link,
    /// Connections of readers that read nothing at the moment.
    idle: Mutex<Vec<Link>>,
    closed: Shutdown,
}

/// The most idle connections that are kept.
const KEPT: usize = 64;

impl RedisStore {
    /// Opens the server at `url` with the default options.
    ///
    /// # Errors
    /// As [`RedisStore::open_with`].
    ///
    /// # Cancel safety
    /// As [`RedisStore::open_with`].
    pub async fn open(url: impl Into<String>) -> Result<Self> {
        Self::open_with(RedisOptions::new(url)).await
    }

    /// Connects, and asks the server whether it is one that loses nothing by itself.
    ///
    /// # Errors
    /// [`OutboxError::Config`] with every setting that cannot be used; [`OutboxError::Backend`] that
    /// names the server where it is not reached (transient), refuses the user, the password or a
    /// command, is older than Redis 7.0, or has a `maxmemory-policy` that throws keys away, see
    /// [`crate::Eviction`].
    ///
    /// # Cancel safety
    /// A dropped call may leave a connection, which closes with the runtime.
    pub async fn open_with(options: RedisOptions) -> Result<Self> {
        let (builder, place) = options.builder()?;
        let opened = Self::establish(options, builder, place.clone()).await;
        opened.at("open", &place)
    }

    async fn establish(
        options: RedisOptions,
        builder: Builder,
        place: String,
    ) -> Result<Self, Fault> {
        let link = Link::lasting(&builder, options.timeout()).await?;
        if let Err(fault) = probe(&link, options.on_eviction(), &place).await {
            link.quit().await;
            return Err(fault);
        }
        Ok(Self(Arc::new(Inner {
            options,
            builder,
            place,
            link,
            idle: Mutex::default(),
            closed: Shutdown::new(),
        })))
    }

    /// The server's address, or those of its nodes or Sentinels.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0.place
    }

    /// Closes all connections, once what was sent is answered; who waits on the server is woken.
    /// Whatever stands on this store answers [`OutboxError::Closed`] from then on.
    ///
    /// # Cancel safety
    /// A dropped call leaves the store closed, and perhaps a connection that closes with the runtime.
    pub async fn close(&self) {
        if self.0.closed.is_triggered() {
            return;
        }
        self.0.closed.trigger();
        for link in self.0.drain_idle() {
            link.quit().await;
        }
        self.0.link.quit().await;
    }

    /// The connection that all commands share, but those that wait on the server.
    pub(crate) fn link(&self) -> Result<&Link, Fault> {
        if self.0.closed.is_triggered() {
            return Err(OutboxError::Closed.into());
        }
        Ok(&self.0.link)
    }

    /// The names of the keys of `name`, which was checked.
    pub(crate) fn keys(&self, name: &str) -> Keys {
        Keys::new(self.0.options.key_prefix(), name)
    }

    /// What a script is told of the moment at which the caller has `now`.
    pub(crate) fn moment(&self, now: Timestamp) -> Arg {
        self.0.options.clock().moment(now)
    }

    /// The most commands that may wait in this process.
    pub(crate) fn commands(&self) -> usize {
        self.0.options.commands()
    }

    /// A connection of its own, for one who waits on the server.
    pub(crate) async fn connect(&self) -> Result<Link, Fault> {
        Link::connect(&self.0.builder, self.0.options.timeout()).await
    }

    /// An idle connection of a reader, where there is one.
    pub(crate) fn take_idle(&self) -> Result<Option<Link>, Fault> {
        self.link()?;
        Ok(self.0.idle().pop())
    }

    /// Keeps a connection on which nothing is on its way for the next reader; whether it is kept.
    pub(crate) fn give_idle(&self, link: &Link) -> bool {
        let mut idle = self.0.idle();
        let kept = !self.0.closed.is_triggered() && idle.len() < KEPT;
        if kept {
            idle.push(link.clone());
        }
        kept
    }

    /// Waits until the store is closed.
    pub(crate) async fn closing(&self) -> Fault {
        self.0.closed.triggered().await;
        OutboxError::Closed.into()
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        let ping = async {
            let link = self.link()?;
            link.command("PING", None, Vec::new()).await
        };
        ping.await.map(drop).at("health check", self.address())
    }
}

impl Inner {
    fn idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drain_idle(&self) -> Vec<Link> {
        std::mem::take(&mut *self.idle())
    }
}

/// The driver keeps connections that nobody closed for as long as the process lives.
impl Drop for Inner {
    fn drop(&mut self) {
        if self.closed.is_triggered() {
            return;
        }
        for link in self.drain_idle() {
            link.close_soon();
        }
        self.link.close_soon();
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}
