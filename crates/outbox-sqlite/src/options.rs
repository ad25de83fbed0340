use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use outbox_core::id::Entropy;
use outbox_core::message::Limits;
use outbox_core::time::{Clock, SystemClock};

/// When a commit counts as durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// Once the disk has it: survives a loss of power. The default.
    #[default]
    Full,
    /// Once the operating system has it: survives a crash of the process, but a loss of power may
    /// undo the last commits.
    Normal,
}

impl Synchronous {
    /// The value of SQLite's pragma.
    pub(crate) const fn pragma(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Normal => "NORMAL",
        }
    }

    /// How SQLite answers when the pragma is asked for.
    pub(crate) const fn level(self) -> i64 {
        match self {
            Self::Full => 2,
            Self::Normal => 1,
        }
    }
}

/// How to open a [`crate::SqliteStore`]; every setting but the path has a default.
///
/// ```
/// use outbox_sqlite::{SqliteOptions, Synchronous};
/// use std::time::Duration;
///
/// let options = SqliteOptions::new("/var/lib/shop/outbox.db")
///     .synchronous(Synchronous::Full)
///     .busy_timeout(Duration::from_secs(2))
///     .keep_published(true);
/// assert_eq!(options.path().to_str(), Some("/var/lib/shop/outbox.db"));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SqliteOptions {
    pub(crate) path: PathBuf,
    pub(crate) synchronous: Synchronous,
    pub(crate) busy_timeout: Duration,
    pub(crate) migrate: bool,
    pub(crate) readers: usize,
    pub(crate) keep_published: bool,
    pub(crate) background_share: u8,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Entropy,
}

impl SqliteOptions {
    /// The defaults for the database file at `path`; the file and its folder are made where they
    /// are missing.
    #[doc(alias = "OUTBOX_PATH")]
    #[doc(alias = "DATABASE_URL")]
    #[doc(alias = "DatabaseURL")]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            synchronous: Synchronous::default(),
            busy_timeout: Duration::from_secs(5),
            migrate: true,
            readers: 4,
            keep_published: false,
            background_share: 2,
            limits: Limits::default(),
            clock: Arc::new(SystemClock),
            entropy: Entropy::from_system(),
        }
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When a commit counts as durable; [`Synchronous::Full`] by default.
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long a call waits for another writer before it fails as transient; 5 s by default.
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Whether missing tables are made at open, true by default; where this is false, a database
    /// whose schema is not up to date is refused. See [`crate::schema_sql`].
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.migrate = migrate;
        self
    }

    /// The most connections that read at the same time; 4 by default, at least 1.
    #[doc(alias = "OUTBOX_MAX_CONNECTIONS")]
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// Whether a published message stays until it is purged; false by default: it is deleted.
    pub fn keep_published(mut self, keep: bool) -> Self {
        self.keep_published = keep;
        self
    }

    /// How many percent of the time work in the background may write while others in this process
    /// write too; 2 by default, from 1 to 100.
    ///
    /// That is what drains the heap of dead letters, quarantines, redrives, discards and imports them,
    /// what writes down by what they are counted, and what purges a queue's memory of ids. It goes in
    /// short transactions. Where somebody else wrote within the last 100 ms, each is followed by a rest
    /// in proportion to what it took, of 1 s at most; alone they never rest. What other processes write
    /// is not seen: set a rate there.
    pub fn background_share(mut self, percent: u8) -> Self {
        self.background_share = percent.clamp(1, 100);
        self
    }

    /// The sizes that are accepted at append.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What appends take their time from; the system's clock by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// What ids are made from; the operating system's randomness by default.
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }
}
