//! What goes wrong in SQLite, told in the caller's terms: which file, whether trying again may help.

use std::path::{Path, PathBuf};

use outbox_core::error::{OutboxError, Transience};

/// The name of this backend in errors.
const BACKEND: &str = "sqlite";

/// Two statements found the same value in a UNIQUE column.
pub(crate) const UNIQUE: i32 = 2067;
/// A PRIMARY KEY was there already.
pub(crate) const PRIMARY_KEY: i32 = 1555;
/// A NOT NULL column was given NULL.
pub(crate) const NOT_NULL: i32 = 1299;
/// A foreign key that nothing satisfies, found at commit or at the end of a statement.
pub(crate) const FOREIGN_KEY: i32 = 787;

const ERROR: i32 = 1;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READ_ONLY: i32 = 8;
const IO: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;
const TOO_BIG: i32 = 18;
const CONSTRAINT: i32 = 19;
const NOT_A_DATABASE: i32 = 26;

/// Anything that can go wrong inside this crate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// SQLite or its driver failed.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
    /// Already told in the caller's terms.
    #[error(transparent)]
    Told(#[from] OutboxError),
    /// The folder of the database cannot be made, or its file cannot be looked at.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The caller's connection is not inside a transaction.
    #[error(
        "the connection is not inside a transaction: none was begun, or SQLite rolled it back by \
         itself; nothing was written"
    )]
    NotInTransaction,
    /// The file was deleted or replaced while it was open: what is written to it is lost.
    #[error("the file was deleted or replaced while it was open")]
    Deleted,
    /// Another transaction of this process kept the database for too long.
    #[error("another transaction of this process holds the database")]
    Occupied,
    /// A failure that several callers share, because they shared a commit.
    #[error(transparent)]
    Shared(#[from] std::sync::Arc<Fault>),
    /// The task that was to commit for several callers ended before it had.
    #[error("the commit was interrupted; whether it took effect is unknown")]
    Interrupted,
    /// The linked SQLite is too old.
    #[error(
        "SQLite {found} is linked, but {needed} or newer is needed: older ones can corrupt WAL"
    )]
    TooOld {
        /// The version that is linked.
        found: String,
        /// The oldest version that is accepted.
        needed: &'static str,
    },
    /// A setting that durability or decoding rests on did not take.
    #[error("{setting} is {found} where {wanted} is needed")]
    Setting {
        /// The pragma's name.
        setting: &'static str,
        /// What the database answers.
        found: String,
        /// What it has to be.
        wanted: String,
    },
}

impl Fault {
    /// SQLite's extended result code, where SQLite itself failed.
    pub(crate) fn code(&self) -> Option<i32> {
        match self {
            Self::Sql(error) => code_of(error),
            Self::Shared(fault) => fault.code(),
            _ => None,
        }
    }

    /// Whether a row with the same id or key is there already.
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self.code(), Some(UNIQUE | PRIMARY_KEY))
    }

    /// Whether a condition in the middle of a text did not hold: that is made an overflow, so that the
    /// statements behind it are never reached.
    pub(crate) fn is_overflow(&self) -> bool {
        self.primary_code() == Some(ERROR) && self.to_string().contains("integer overflow")
    }

    /// Whether the rows themselves were refused, so that others would not be.
    pub(crate) fn is_about_the_rows(&self) -> bool {
        matches!(self.primary_code(), Some(ERROR | TOO_BIG | CONSTRAINT))
    }

    fn primary_code(&self) -> Option<i32> {
        self.code().map(|code| code & 0xff)
    }

    fn transience(&self) -> Transience {
        let again = match self {
            Self::Occupied | Self::Interrupted | Self::Sql(sqlx::Error::PoolTimedOut) => true,
            Self::Shared(fault) => return fault.transience(),
            _ => matches!(self.primary_code(), Some(BUSY | LOCKED)),
        };
        if again {
            Transience::Transient
        } else {
            Transience::Permanent
        }
    }
}

/// The extended result code of `error`, where SQLite itself failed.
pub(crate) fn code_of(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

/// A fault with the operation and the file that it happened in.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", self.diagnosis())]
pub(crate) struct Failed {
    operation: &'static str,
    path: PathBuf,
    #[source]
    fault: Fault,
}

impl Failed {
    pub(crate) fn new(operation: &'static str, path: &Path, fault: Fault) -> Self {
        Self {
            operation,
            path: path.to_owned(),
            fault,
        }
    }

    fn diagnosis(&self) -> String {
        let path = self.path.display();
        match self.fault.primary_code() {
            Some(BUSY | LOCKED) => format!("{path} is locked by another connection"),
            Some(READ_ONLY) => format!("{path} is read-only"),
            Some(IO) => format!("reading or writing {path} failed"),
            Some(CORRUPT) => format!("{path} is damaged"),
            Some(FULL) => format!("the disk of {path} is full, or a file size limit is reached"),
            Some(CANNOT_OPEN) => format!("{path} cannot be opened"),
            Some(NOT_A_DATABASE) => format!("{path} is not an SQLite database"),
            _ => format!("{path}"),
        }
    }
}

impl From<Failed> for OutboxError {
    fn from(failed: Failed) -> Self {
        match failed.fault {
            Fault::Told(error) => error,
            _ => Self::Backend {
                backend: BACKEND,
                operation: failed.operation,
                transience: failed.fault.transience(),
                source: Box::new(failed),
            },
        }
    }
}
