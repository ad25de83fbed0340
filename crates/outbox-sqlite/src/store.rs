mod writers;

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use outbox_core::error::{OutboxError, Result};
use outbox_core::signal::Wake;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::checkpoint::Checkpointer;
use crate::connect::{Role, connect, connect_first};
use crate::error::{Failed, Fault};
use crate::location::{self, FileIdentity};
use crate::options::SqliteOptions;
use crate::outbox;
use crate::pace::Background;
use crate::queue;
use crate::schema;
use crate::unit;
use crate::watch::Watcher;
use writers::Writers;
pub(crate) use writers::{Turn, Writer};

/// One SQLite database file, opened: what all ports of this crate stand on, shared by cloning.
///
/// All writes of a process go through one connection at a time, in the order in which they were
/// asked for, so that they never fight each other for SQLite's one write lock; reads go beside it.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("outbox.db");
/// use outbox_sqlite::SqliteStore;
///
/// let store = SqliteStore::open(&path).await?;
/// assert_eq!(store.path(), path);
/// # Ok::<_, outbox_core::OutboxError>(()) }).unwrap();
/// ```
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    options: SqliteOptions,
    identity: FileIdentity,
    writers: Arc<AsyncMutex<Writers>>,
    /// How many turns of writing there were.
    turns: AtomicU64,
    background: Arc<Background>,
    checkpointer: OnceLock<Checkpointer>,
    readers: Arc<Readers>,
    callers: SqlitePool,
    wake: Wake,
    /// Whether something was appended in a transaction of a caller's since one was committed.
    appended: AtomicBool,
    watcher: OnceLock<Option<Watcher>>,
    outbox: outbox::Shared,
    rooms: queue::Rooms,
}

struct Readers {
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<SqliteConnection>>,
}

impl SqliteStore {
    /// Opens the database file at `path` with the default options.
    ///
    /// # Errors
    /// As [`SqliteStore::open_with`].
    ///
    /// # Cancel safety
    /// As [`SqliteStore::open_with`].
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(SqliteOptions::new(path)).await
    }

    /// Opens a database file: makes it and its folder where they are missing, turns WAL on, makes
    /// missing tables, and verifies what durability rests on.
    ///
    /// # Errors
    /// [`OutboxError::Backend`] that names the file, where it cannot be opened, is no database,
    /// cannot be written, or does not take a setting; [`OutboxError::Schema`] where its tables are
    /// of a newer version.
    ///
    /// # Cancel safety
    /// A dropped call may leave the file and its tables, whole.
    pub async fn open_with(options: SqliteOptions) -> Result<Self> {
        let path = options.path.clone();
        Self::establish(options)
            .await
            .map_err(|fault| Failed::new("open", &path, fault).into())
    }

    async fn establish(options: SqliteOptions) -> Result<Self, Fault> {
        let mut durable = connect_first(&options).await?;
        schema::prepare(&mut durable, options.migrate).await?;
        location::warn_of_risks(&options.path);
        Ok(Self(Arc::new(Inner {
            identity: FileIdentity::of(&options.path)?,
            writers: Arc::new(AsyncMutex::new(Writers::of(durable, &options))),
            turns: AtomicU64::new(0),
            background: Background::new(options.background_share),
            checkpointer: OnceLock::new(),
            readers: Arc::new(Readers {
                permits: Arc::new(Semaphore::new(options.readers)),
                idle: Mutex::default(),
            }),
            callers: unit::pool(&options),
            wake: Wake::new(),
            appended: AtomicBool::new(false),
            watcher: OnceLock::new(),
            outbox: outbox::Shared::default(),
            rooms: queue::Rooms::default(),
            options,
        })))
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.options.path
    }

    pub(crate) fn options(&self) -> &SqliteOptions {
        &self.0.options
    }

    /// What all outboxes on this store share.
    pub(crate) fn outbox(&self) -> &outbox::Shared {
        &self.0.outbox
    }

    /// What is known of the queues' want of room.
    pub(crate) fn rooms(&self) -> &queue::Rooms {
        &self.0.rooms
    }

    /// Says that a commit of this store may have made something claimable.
    pub(crate) fn announce(&self) {
        self.0.wake.notify();
    }

    /// Says that something was appended in a transaction that its caller will commit.
    pub(crate) fn note_appended(&self) {
        self.0.appended.store(true, Ordering::Release);
    }

    /// Whether something was appended since this was asked last.
    pub(crate) fn take_appended(&self) -> bool {
        self.0.appended.swap(false, Ordering::AcqRel)
    }

    /// The signal that something may have become claimable, for those who listen: from the first
    /// call on, commits of others are watched for, too.
    pub(crate) fn wake(&self) -> &Wake {
        let start = || match Watcher::start(self.options(), self.0.wake.clone()) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "commits of others are noticed by the safety poll only");
                None
            }
        };
        self.0.watcher.get_or_init(start);
        &self.0.wake
    }

    /// The one durable writing connection, once it is this caller's turn.
    pub(crate) async fn writer(&self) -> Result<Writer, Fault> {
        self.take_turn(Role::Durable).await
    }

    /// A writing connection that does not wait for the disk, for what only matters while this host
    /// is up: leases, and moves that are made again where they are lost.
    pub(crate) async fn swift_writer(&self) -> Result<Writer, Fault> {
        self.take_turn(Role::Swift).await
    }

    /// As [`SqliteStore::swift_writer`], for writes of many rows; see [`Role::Bulk`].
    pub(crate) async fn bulk_writer(&self) -> Result<Writer, Fault> {
        self.take_turn(Role::Bulk).await
    }

    /// A writing connection for work that nobody waits for, one such writer at a time: while others
    /// write, it keeps to its share of the time.
    pub(crate) async fn background_writer(&self, role: Role) -> Result<Writer, Fault> {
        let next = self.0.background.next().await;
        let turn = self.next_turn().await?;
        let stint = next.begin();
        let mut writer = Writer::in_turn(turn, role, self.options()).await?;
        writer.stint = Some(stint);
        Ok(writer)
    }

    /// Whether only background work has written lately.
    #[cfg(feature = "dlq")]
    pub(crate) fn is_background_alone(&self) -> bool {
        self.0.background.is_alone()
    }

    /// The durable writing connection, where nobody else has it or waits for it.
    pub(crate) async fn idle_writer(&self) -> Result<Option<Writer>, Fault> {
        match Arc::clone(&self.0.writers).try_lock_owned() {
            Ok(turn) => {
                self.0.background.others_write();
                self.note_turn()?;
                Writer::in_turn(turn, Role::Durable, self.options())
                    .await
                    .map(Some)
            }
            Err(_) => Ok(None),
        }
    }

    async fn take_turn(&self, role: Role) -> Result<Writer, Fault> {
        let turn = self.turn().await?;
        Writer::in_turn(turn, role, self.options()).await
    }

    /// The right to write, once it is this caller's turn.
    pub(crate) async fn turn(&self) -> Result<Turn, Fault> {
        self.0.background.others_write();
        let turn = self.next_turn().await?;
        self.0.background.others_write();
        Ok(turn)
    }

    /// The next turn in line.
    ///
    /// A caller may hold the turn himself, in a transaction of his own, and would wait for ever where
    /// SQLite would answer that the database is locked: so he is told when nothing moves for as long
    /// as a locked database is waited for. Behind a long line of others he waits.
    async fn next_turn(&self) -> Result<Turn, Fault> {
        let mut waiting = pin!(Arc::clone(&self.0.writers).lock_owned());
        loop {
            let turns = self.0.turns.load(Ordering::Relaxed);
            if let Ok(turn) = timeout(self.0.options.busy_timeout, &mut waiting).await {
                self.note_turn()?;
                return Ok(turn);
            }
            if self.0.turns.load(Ordering::Relaxed) == turns {
                return Err(Fault::Occupied);
            }
        }
    }

    /// Counts a turn of writing, which has just begun, and makes sure that it writes to the right file.
    fn note_turn(&self) -> Result<(), Fault> {
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        self.verify_file()?;
        let start = || Checkpointer::start(self.options());
        self.0.checkpointer.get_or_init(start).ring();
        Ok(())
    }

    /// Makes sure that the path still names the file that was opened.
    pub(crate) fn verify_file(&self) -> Result<(), Fault> {
        self.0.identity.verify(self.path())
    }

    /// Where callers' own transactions run; used only by who holds the turn.
    pub(crate) fn callers(&self) -> &SqlitePool {
        &self.0.callers
    }

    /// A reading connection.
    pub(crate) async fn reader(&self) -> Result<Reader, Fault> {
        let readers = Arc::clone(&self.0.readers);
        let permits = Arc::clone(&readers.permits);
        let permit = permits
            .acquire_owned()
            .await
            .map_err(|_| Fault::Told(OutboxError::Closed))?;
        let idle = readers.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.0.options, Role::Reader).await?,
        };
        Ok(Reader {
            connection,
            readers,
            _permit: permit,
        })
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

impl Readers {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reading connection; closed where it is dropped without [`Reader::finish`].
pub(crate) struct Reader {
    connection: SqliteConnection,
    readers: Arc<Readers>,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// The connection.
    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }

    /// Gives the connection back; it reads nothing any more.
    pub(crate) fn finish(self) {
        self.readers.idle().push(self.connection);
    }
}

/// Tells a fault in the caller's terms.
pub(crate) trait At<T> {
    /// The fault with the file of `store` and the `operation` that it happened in.
    fn at(self, store: &SqliteStore, operation: &'static str) -> Result<T>;
}

impl<T> At<T> for Result<T, Fault> {
    fn at(self, store: &SqliteStore, operation: &'static str) -> Result<T> {
        self.map_err(|fault| Failed::new(operation, store.path(), fault).into())
    }
}

#[cfg(test)]
mod tests;
